package retry

import "github.com/linkerd-go/linkerd-go/proxy/exchange"

// Peeked is a response's body whose first frames were looked at, in order to
// see trailers that say whether the call failed.
type Peeked struct {
	body exchange.Body
	// frames wait to be read, err after them.
	frames   [2]exchange.Frame
	n, next  int
	err      error
	trailers *exchange.Fields
	ended    bool
}

var _ exchange.Body = (*Peeked)(nil)

// Peek waits for the first frame of the body. If it has data, a second one is
// looked at only if it is there already, so that a streaming response is not
// held up.
func Peek(body exchange.Body) *Peeked {
	p := &Peeked{body: body}
	if body.Ended() {
		return p
	}
	for p.n < len(p.frames) {
		f, err := body.Next()
		if err != nil {
			p.err = err
			return p
		}
		p.frames[p.n] = f
		p.n++
		if f.End {
			p.ended, p.trailers = true, f.Trailers
			return p
		}
		if p.n == len(p.frames) || !body.Ready() {
			return p
		}
		// The next frame overwrites this one's data.
		p.frames[p.n-1].Data = append([]byte(nil), f.Data...)
	}
	return p
}

// Trailers returns the trailers if the end of the body was seen, else nil.
func (p *Peeked) Trailers() *exchange.Fields { return p.trailers }

// Err returns the error that ended the body as it was peeked at, if any.
func (p *Peeked) Err() error { return p.err }

// Next returns the frames that were peeked at, then the others.
func (p *Peeked) Next() (exchange.Frame, error) {
	if p.next < p.n {
		f := p.frames[p.next]
		p.frames[p.next] = exchange.Frame{}
		p.next++
		return f, nil
	}
	if p.err != nil {
		return exchange.Frame{}, p.err
	}
	return p.body.Next()
}

// Ready reports whether Next would return at once.
func (p *Peeked) Ready() bool { return p.next < p.n || p.err != nil || p.body.Ready() }

// Ended reports whether the body is known to be over.
func (p *Peeked) Ended() bool { return p.next == p.n && p.err == nil && p.body.Ended() }

// Close gives the rest of the body up.
func (p *Peeked) Close(cause error) { p.body.Close(cause) }
