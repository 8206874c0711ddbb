package names

// HTTP headers of the mesh, in lower case as HTTP/2 has them; see the proxy chapter, section
// 7.1, for who sets and removes each.
const (
	// HeaderOrigProto is the version of a request that travels over HTTP/2 between proxies.
	HeaderOrigProto = "l5d-orig-proto"
	// HeaderClientID is the verified identity of the client.
	HeaderClientID = "l5d-client-id"
	// HeaderDstCanonical is the name of the profile that a request was routed by.
	HeaderDstCanonical = "l5d-dst-canonical"
	// HeaderDstOverride names the destination, for proxies in ingress mode.
	HeaderDstOverride = "l5d-dst-override"
	// HeaderRequireID is the identity that the server must have.
	HeaderRequireID = "l5d-require-id"
	// HeaderProxyError is the reason for a response that a proxy made itself.
	HeaderProxyError = "l5d-proxy-error"
	// HeaderProxyConnection, with the value "close", asks the peer proxy to drop the
	// application's connection.
	HeaderProxyConnection = "l5d-proxy-connection"
	// HeaderProxyErr is the message of an injected failure.
	HeaderProxyErr = "l5d-proxy-err"

	// HeaderRetryHTTP is the AnnotationRetryHTTP of one request.
	HeaderRetryHTTP = "l5d-retry-http"
	// HeaderRetryGRPC is the AnnotationRetryGRPC of one request.
	HeaderRetryGRPC = "l5d-retry-grpc"
	// HeaderRetryLimit is the AnnotationRetryLimit of one request.
	HeaderRetryLimit = "l5d-retry-limit"
	// HeaderRetryTimeout is the AnnotationRetryTimeout of one request.
	HeaderRetryTimeout = "l5d-retry-timeout"
	// HeaderTimeout is the AnnotationTimeoutRequest of one request.
	HeaderTimeout = "l5d-timeout"
	// HeaderRequestTimeout means the same as HeaderTimeout and wins over it.
	HeaderRequestTimeout = "l5d-request-timeout"
	// HeaderResponseTimeout is the AnnotationTimeoutResponse of one request.
	HeaderResponseTimeout = "l5d-response-timeout"
)
