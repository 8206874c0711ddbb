package outbound

// maxMoves is how often a request is given to another endpoint because the one
// that was chosen went away before it was asked. It is no limit but for endpoints
// that come and go all the time.
const maxMoves = 8

// move gives a request that was not sent another endpoint, waiting for one like
// any other request. An endpoint that leaves must not keep what it never saw: it
// may be gone for good, and those that are left can answer.
func (a *attempt) move(b *backend) (*endpoint, error) {
	a.picked = false
	a.pick.Release()
	pick, err := b.balancer.Pick(a.c)
	if err != nil {
		return nil, err
	}
	a.pick, a.picked = pick, true
	return pick.Service(), nil
}
