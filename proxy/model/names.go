package model

// Names of the kinds, for logs and test output.

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}

// String is the name of the kind.
func (k PathKind) String() string { return name([]string{"any", "exact", "prefix", "regex"}, uint8(k)) }

// String is the name of the kind.
func (k FilterKind) String() string {
	return name([]string{"none", "request headers", "response headers", "redirect", "failure", "internal error", "forbidden", "invalid backend", "rewrite", "cors", "mirror"}, uint8(k))
}

// String is the name of the kind.
func (k DistributionKind) String() string {
	return name([]string{"empty", "first available", "random available"}, uint8(k))
}

// String is the name of the kind.
func (k BackendKind) String() string { return name([]string{"fail", "forward", "balance"}, uint8(k)) }

// String is the name of the kind.
func (k AuthnKind) String() string {
	return name([]string{"unset", "none", "tls", "identity"}, uint8(k))
}

// String is the name of the operator.
func (o MatchOp) String() string {
	return name([]string{"unset", "all", "any", "not", "path", "method", "status"}, uint8(o))
}
