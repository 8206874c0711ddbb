package exchange

// StripConnection removes the header fields that belong to one connection and
// not to the message: every field named in Connection, then Connection,
// Proxy-Connection, Keep-Alive and Upgrade (proxy chapter, section 7.2). It is
// not called for messages that upgrade the connection. Transfer-Encoding stays,
// since the codecs own the framing.
func StripConnection(f *Fields) {
	hop := false
	for i := range f.List {
		switch len(f.List[i].Name) {
		case 10, 16, 7:
			hop = hop || isConnectionField(f.List[i].Name)
		}
	}
	if !hop {
		return
	}
	out := f.List[:0]
	// The named fields go first: the loop below needs Connection's values,
	// which stay intact in the head's buffer while the list is compacted.
	var conn [4][]byte
	values := conn[:0]
	for i := range f.List {
		if f.List[i].Is("connection") {
			values = append(values, f.List[i].Value)
		}
	}
	for _, e := range f.List {
		if isConnectionField(e.Name) || named(values, e.Name) {
			continue
		}
		out = append(out, e)
	}
	clear(f.List[len(out):])
	f.List = out
}

// isConnectionField says whether the field is always about the connection.
func isConnectionField(name []byte) bool {
	switch len(name) {
	case 7:
		return EqualFold(name, "upgrade")
	case 10:
		return EqualFold(name, "connection") || EqualFold(name, "keep-alive")
	case 16:
		return EqualFold(name, "proxy-connection")
	}
	return false
}

// named says whether name is an element of one of the Connection values. The
// framing fields cannot be named away: that would let a sender hide how long
// its message is.
func named(values [][]byte, name []byte) bool {
	for _, v := range values {
		for len(v) > 0 {
			var tok []byte
			tok, v = NextToken(v)
			if SameFold(tok, name) {
				return !isFraming(name)
			}
		}
	}
	return false
}

// isFraming says whether the field tells how long a message is, or for whom.
func isFraming(name []byte) bool {
	return EqualFold(name, "content-length") || EqualFold(name, "transfer-encoding") || EqualFold(name, "host")
}

// NextToken cuts the first element off a comma-separated field value. The
// element, without surrounding white space, may be empty.
func NextToken(v []byte) (token, rest []byte) {
	i := 0
	for i < len(v) && v[i] != ',' {
		i++
	}
	token = v[:i]
	if i < len(v) {
		rest = v[i+1:]
	}
	for len(token) > 0 && (token[0] == ' ' || token[0] == '\t') {
		token = token[1:]
	}
	for n := len(token); n > 0 && (token[n-1] == ' ' || token[n-1] == '\t'); n-- {
		token = token[:n-1]
	}
	return token, rest
}

// HasToken reports whether the comma-separated value v has the element token
// (lower case), ignoring case.
func HasToken(v []byte, token string) bool {
	for len(v) > 0 {
		var t []byte
		t, v = NextToken(v)
		if EqualFold(t, token) {
			return true
		}
	}
	return false
}

// SameFold compares two byte strings, ignoring ASCII case.
func SameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}
