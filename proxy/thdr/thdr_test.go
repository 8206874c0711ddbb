package thdr

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// The bytes are those of the proxy API chapter, section 12.14.
func TestWire(t *testing.T) {
	for _, c := range []struct {
		h    Header
		wire string
	}{
		{Header{Port: 3306}, "\x00\x00\x00\x03\x08\xea\x19"},
		{
			Header{Port: 80, Name: "web.emo.svc.cluster.local", Session: HTTP2},
			"\x00\x00\x00\x21\x08\x50\x12\x19web.emo.svc.cluster.local\x1a\x02\x12\x00",
		},
		{Header{Port: 65535, Session: HTTP1}, "\x00\x00\x00\x08\x08\xff\xff\x03\x1a\x02\x0a\x00"},
	} {
		want := "transport.l5d.io/v1\r\n\r\n" + c.wire
		got := Append(nil, c.h)
		if string(got) != want {
			t.Errorf("%+v: got %q, want %q", c.h, got, want)
		}
		for i := range got {
			if _, _, err := Parse(got[:i]); !errors.Is(err, ErrShort) {
				t.Errorf("%d bytes of %+v: %v", i, c.h, err)
			}
		}
		h, n, err := Parse(append(got, "session"...))
		if err != nil || h != c.h || n != len(want) {
			t.Errorf("%+v: parsed as %+v, %d bytes, %v", c.h, h, n, err)
		}
	}
}

// Names are those of DNS, a dot at the end or not: labels of at most 63 bytes, together at most 253.
func TestNames(t *testing.T) {
	label := strings.Repeat("a", 63)
	full := strings.Join([]string{label, label, label, label[2:]}, ".")
	for name, valid := range map[string]bool{
		"web": true, "web.": true, "Web_1-a.NS": true, label: true, full: true, full + ".": true,
		".": false, ".web": false, "web..ns": false, "web..": false, label + "a": false, full + "a": false,
		"a@b": false, "a[b": false, "a`b": false, "a{b": false, "a/b": false, "a:b": false, "b\xc3\xbccher": false,
	} {
		h, _, err := Parse(Append(nil, Header{Port: 80, Name: name}))
		if valid && (err != nil || h.Name != name) {
			t.Errorf("%q: got %q, %v", name, h.Name, err)
		}
		if !valid && !errors.Is(err, ErrName) {
			t.Errorf("%q: got %v, want %v", name, err, ErrName)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, message string
		want          error
	}{
		{"no preface", "GET / HTTP/1.1\r\n", ErrMissing},
		{"half a preface", "transport.l5d.io/v2", ErrMissing},
		{"too long", preface + "\x00\x01\x00\x01", ErrTooLong},
		{"no port", preface + "\x00\x00\x00\x00", ErrPort},
		{"port zero", preface + "\x00\x00\x00\x02\x08\x00", ErrPort},
		{"port too large", preface + "\x00\x00\x00\x04\x08\x80\x80\x04", ErrPort},
		{"negative port", preface + "\x00\x00\x00\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ErrPort},
		{"name ends in a space", preface + "\x00\x00\x00\x06\x08\x50\x12\x02a b", ErrName},
		{"name with a space", preface + "\x00\x00\x00\x07\x08\x50\x12\x03a b", ErrName},
		{"field runs over", preface + "\x00\x00\x00\x04\x08\x50\x12\x09", ErrMessage},
	} {
		if _, _, err := Parse([]byte(c.message)); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestUnknownFieldsAreSkipped(t *testing.T) {
	message := "\x08\x50\x22\x01x\x28\x07\x31\x00\x00\x00\x00\x00\x00\x00\x00\x3d\x00\x00\x00\x00"
	wire := preface + "\x00\x00\x00" + string([]byte{byte(len(message))}) + message
	if h, _, err := Parse([]byte(wire)); err != nil || h != (Header{Port: 80}) {
		t.Errorf("got %+v, %v", h, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, Header{Port: 80, Name: "a.b", Session: HTTP1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			return
		}
		again, m, err := Parse(Append(nil, h))
		if err != nil || again != h {
			t.Fatalf("%+v (%d bytes) came back as %+v (%d bytes), %v", h, n, again, m, err)
		}
		if strings.ContainsAny(h.Name, " \r\n") || !bytes.HasPrefix(b, []byte(preface)) {
			t.Fatalf("accepted %q", b)
		}
	})
}
