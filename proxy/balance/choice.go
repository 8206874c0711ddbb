package balance

// choice is a snapshot of the members that requests are sent to. It does not
// change.
type choice[S Service] struct {
	members []*member[S]
	// sums are the weights of the members, added up one after the other; nil if
	// all weigh the same.
	sums []uint64
	// anyway says that all of them are to be avoided.
	anyway bool
}

// weigh adds the weights up.
func (c *choice[S]) weigh() {
	differ := false
	for _, m := range c.members {
		differ = differ || m.weight != c.members[0].weight
	}
	if !differ {
		return
	}
	c.sums = make([]uint64, len(c.members))
	var sum uint64
	for i, m := range c.members {
		sum += m.weight
		c.sums[i] = sum
	}
}

// two draws two different members by weight; there are at least two.
func (c *choice[S]) two(intN func(int) int) (first, second *member[S]) {
	n := len(c.members)
	if c.sums == nil {
		i := intN(n)
		j := intN(n - 1)
		if j >= i {
			j++
		}
		return c.members[i], c.members[j]
	}
	i := c.at(uint64(intN(int(c.sums[n-1]))))
	// The second is drawn as if the first were not there.
	own := c.members[i].weight
	at := uint64(intN(int(c.sums[n-1] - own)))
	if at >= c.sums[i]-own {
		at += own
	}
	return c.members[i], c.members[c.at(at)]
}

// at is the member whose part of the sum has the given place.
func (c *choice[S]) at(place uint64) int {
	low, high := 0, len(c.sums)-1
	for low < high {
		if middle := (low + high) / 2; c.sums[middle] > place {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}
