package names

// Containers that injection adds to a pod.
const (
	ContainerProxy            = "linkerd-proxy"
	ContainerInit             = "linkerd-init"
	ContainerNetworkValidator = "linkerd-network-validator"
	ContainerDebug            = "linkerd-debug"
)

// Volumes that injection adds to a pod.
const (
	// VolumeIdentityEndEntity holds the proxy's key, in memory.
	VolumeIdentityEndEntity = "linkerd-identity-end-entity"
	// VolumeIdentityToken holds the projected ServiceAccount token.
	VolumeIdentityToken = "linkerd-identity-token"
	// VolumePodinfo holds the pod's labels, for traces.
	VolumePodinfo = "linkerd-podinfo"
	// VolumeXtablesLock is where the init container keeps the firewall's lock.
	VolumeXtablesLock = "linkerd-proxy-init-xtables-lock"
	// VolumeKubeAPIAccess holds API credentials in the control plane's pods.
	VolumeKubeAPIAccess = "kube-api-access"
)

// Files and directories in an injected pod.
const (
	// DirIdentityEndEntity is where VolumeIdentityEndEntity is mounted.
	DirIdentityEndEntity = "/var/run/linkerd/identity/end-entity"
	// DirIdentityToken is where VolumeIdentityToken is mounted.
	DirIdentityToken = "/var/run/secrets/tokens"
	// PathIdentityToken is the projected token.
	PathIdentityToken = "/var/run/secrets/tokens/linkerd-identity-token"
	// PathServiceAccountToken is used where projection is off.
	PathServiceAccountToken = DirServiceAccount + "/token"
	// DirPodinfo is where VolumePodinfo is mounted.
	DirPodinfo = "/var/run/linkerd/podinfo"
	// DirXtablesLock is where VolumeXtablesLock is mounted.
	DirXtablesLock = "/run"

	// FileKey is the proxy's private key, PKCS#8 in DER, in DirIdentityEndEntity.
	FileKey = "key.p8"
	// FileCSR is the proxy's certificate request in DER, in DirIdentityEndEntity.
	FileCSR = "csr.der"
)

// The projected token.
const (
	// IdentityTokenAudience is the audience that the identity controller asks for.
	IdentityTokenAudience = "identity.l5d.io"
	// IdentityTokenFile is the token's file in its volume.
	IdentityTokenFile = "linkerd-identity-token"
	// IdentityTokenExpirationSeconds is the token's lifetime.
	IdentityTokenExpirationSeconds = 86400
)

// Programs in the proxy's image.
const (
	ProgramProxy            = "/usr/lib/linkerd/linkerd2-proxy"
	ProgramProxyIdentity    = "/usr/lib/linkerd/linkerd2-proxy-identity"
	ProgramProxyInit        = "/usr/lib/linkerd/linkerd2-proxy-init"
	ProgramAwait            = "/usr/lib/linkerd/linkerd-await"
	ProgramNetworkValidator = "/usr/lib/linkerd/linkerd2-network-validator"
	ProgramSleep            = "/bin/sleep"
)

// Users that containers run as.
const (
	// UIDProxy is also the user whose outbound connections are not redirected.
	UIDProxy = 2102
	// UIDController is the user of the control plane's containers.
	UIDController = 2103
	// UIDNobody is the user of the init containers.
	UIDNobody = 65534
)

// Paths of the proxy's admin server.
const (
	PathLive     = "/live"
	PathReady    = "/ready"
	PathMetrics  = "/metrics"
	PathShutdown = "/shutdown"
	// PathPing is the liveness path of the control plane's Go components.
	PathPing = "/ping"
)
