package initcmd

// FileCapability is the value of the extended attribute security.capability
// that the command's file must have where the command does not run as root: the
// NET_ADMIN capability as permitted.
//
// It is not marked effective, which the kernel takes for a promise that the
// program cannot do without: such a file could not be started at all in the
// proxy's own container, which is the same file and lacks the capability. The
// command makes it effective by itself when it is there.
//
// The layout is the kernel's struct vfs_cap_data, revision 2, little-endian.
const FileCapability = "\x00\x00\x00\x02" + // revision 2, not effective
	"\x00\x10\x00\x00\x00\x00\x00\x00" + // permitted and inheritable, 0 to 31: bit 12
	"\x00\x00\x00\x00\x00\x00\x00\x00" // 32 to 63
