package rpc

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/linkerd-go/linkerd-go/proxy/exchange"
)

// Code is a gRPC status code.
type Code uint32

// The codes (gRPC, "Status codes and their use").
const (
	OK Code = iota
	Canceled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

var codeNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
	"ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
}

// String is the code's name.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "Code(" + strconv.FormatUint(uint64(c), 10) + ")"
}

// Error is a call that did not end with OK.
type Error struct {
	Code    Code
	Message string
	// Err is the reason, if it was not the server that said so.
	Err error
}

// Errorf makes an Error; %w works.
func Errorf(c Code, format string, a ...any) *Error {
	err := fmt.Errorf(format, a...)
	return &Error{Code: c, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Error gives code and message.
func (e *Error) Error() string { return "rpc error: " + e.Code.String() + ": " + e.Message }

// Unwrap gives the reason.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf is the code of an error: that of an Error in it, those of contexts that
// ended, otherwise Unknown; OK for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return OK
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return Canceled
	}
	return Unknown
}

// httpCode is what an answer that is not gRPC means (gRPC, "HTTP to gRPC status
// code mapping").
func httpCode(status int) Code {
	switch status {
	case 400:
		return Internal
	case 401:
		return Unauthenticated
	case 403:
		return PermissionDenied
	case 404:
		return Unimplemented
	case 429, 502, 503, 504:
		return Unavailable
	}
	return Unknown
}

// resetCode is what a reset stream means (gRPC over HTTP/2, "Errors").
func resetCode(code uint32) Code {
	switch code {
	case exchange.CodeRefusedStream:
		return Unavailable
	case exchange.CodeCancel:
		return Canceled
	case exchange.CodeEnhanceYourCalm:
		return ResourceExhausted
	case 0xc: // INADEQUATE_SECURITY
		return PermissionDenied
	}
	return Internal
}

// status reads the outcome from trailers, or from a head that is the trailers
// too; there is none without grpc-status.
func status(f *exchange.Fields) (err error, ok bool) {
	v := f.Get("grpc-status")
	if v == nil {
		return nil, false
	}
	n, perr := strconv.ParseUint(string(v), 10, 32)
	if perr != nil {
		return Errorf(Unknown, "malformed grpc-status %q", v), true
	}
	if n == 0 {
		return nil, true
	}
	return &Error{Code: Code(n), Message: unescape(string(f.Get("grpc-message")))}, true
}

// unescape undoes percent-encoding, and leaves alone what is none.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(v))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
