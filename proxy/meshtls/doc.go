// Package meshtls owns this proxy's credentials and makes TLS configurations
// from them (proxy chapter, section 6.1): mutual TLS 1.3 between proxies, with
// certificates that name workloads.
//
//	store, err := meshtls.New(meshtls.Config{ID: id, ServerName: name, Anchors: pem})
//	store.SetCertificate(chain, key)             // certify, each time anew
//	tls.Server(conn, store.ServerConfig())       // inbound
//	tls.Client(conn, store.ClientConfig(tlsID, false))
//
// Credentials and trust anchors are snapshots behind atomic pointers: whoever
// sets them verifies first and publishes at once, new handshakes use them,
// connections that exist go on with the old ones. All methods may be called
// from any goroutine; the configurations are shared by any number of
// connections and never need to be made anew.
package meshtls
