// Package xtables puts a redirection plan into the kernel's legacy ip_tables
// and ip6_tables, as iptables-legacy would, without that program.
//
// Some nodes cannot use nftables: their kernel lacks NAT for it, or other
// software there insists on the legacy tables. The proxy's image holds no
// iptables, so this package speaks the kernel's interface itself: it reads the
// whole nat table of a family, changes its own chains in it, and hands the whole
// table back. The kernel takes it in one step, so no connection slips through,
// and refuses it if entries were added or removed meanwhile, in which case the
// work is done again, so no rule of others is lost.
//
//	blob (bytes) ── parse ──► table (chains of entries, jumps by name)
//	                             │  put / take our chains
//	blob (bytes) ◄── encode ─────┘
//
// parse, the changes and encode are pure functions over bytes; only kernel.go
// makes system calls. The layout of the bytes is that of the kernel's user API,
// linux/netfilter/x_tables.h and ip_tables.h, on 64-bit systems.
//
// Apply, Remove and Installed act on the network namespace of the calling thread
// and may be called from any goroutine. Packet counters of rules that are not
// ours start from zero when the table is replaced.
package xtables
