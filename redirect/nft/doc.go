// Package nft puts a redirection plan into the kernel as nftables rules.
//
// It talks netlink itself: no nft or iptables binary is needed, so that the
// proxy's image can hold nothing but the proxy. One [Apply] is one transaction
// for both address families: either all rules are in place afterwards or
// nothing has changed, and applying again replaces the old rules in one step,
// so that no connection slips through between.
//
// The rules live in tables of their own, "ip linkerd" and "ip6 linkerd", which
// makes replacing and removing them exact: nothing else in the pod's network
// namespace is touched. Inside, chains and comments have the names of the proxy
// chapter, section 24.2. [Render] shows a plan the way `nft list ruleset` shows
// it once applied.
//
// Apply, Remove and Installed act on the network namespace of the calling
// thread; lock the goroutine to its thread when that is not the process's own.
// They are otherwise safe to call from any goroutine, but two of them at the
// same time on one namespace would race for who comes last.
package nft
