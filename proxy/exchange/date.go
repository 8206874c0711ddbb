package exchange

import (
	"sync/atomic"
	"time"
)

// dateValue is the Date field's value for one second.
type dateValue struct {
	second int64
	text   string
}

var lastDate atomic.Pointer[dateValue]

// Date returns the value of a Date header field for now (RFC 9110, section
// 5.6.7). It is formatted once a second and safe for concurrent use.
func Date() string {
	now := time.Now()
	if d := lastDate.Load(); d != nil && d.second == now.Unix() {
		return d.text
	}
	d := &dateValue{now.Unix(), now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
	lastDate.Store(d)
	return d.text
}
