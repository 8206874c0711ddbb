package actor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// orders are what a Stage sends, one path each.
func (a *Actor) orders() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ready\n") })
	mux.HandleFunc("POST /call", func(w http.ResponseWriter, r *http.Request) {
		var c Call
		if take(w, r, &c) {
			give(w, a.client.call(r.Context(), c))
		}
	})
	mux.HandleFunc("POST /hold", func(w http.ResponseWriter, r *http.Request) {
		var c Call
		if take(w, r, &c) {
			give(w, a.client.hold(r.Context(), r.URL.Query().Get("name"), c))
		}
	})
	mux.HandleFunc("POST /say", func(w http.ResponseWriter, r *http.Request) {
		give(w, a.client.say(r.Context(), r.URL.Query().Get("name")))
	})
	mux.HandleFunc("POST /flow", func(w http.ResponseWriter, r *http.Request) {
		var c Call
		if take(w, r, &c) {
			give(w, begun{a.client.flow(r.URL.Query().Get("name"), c)})
		}
	})
	mux.HandleFunc("POST /arrived", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		n := a.tries[r.URL.Query().Get("name")]
		a.mu.Unlock()
		give(w, n)
	})
	mux.HandleFunc("POST /flowed", func(w http.ResponseWriter, r *http.Request) {
		give(w, a.client.flowed(r.URL.Query().Get("name")))
	})
	mux.HandleFunc("POST /release", func(w http.ResponseWriter, r *http.Request) {
		a.client.release(r.URL.Query().Get("name"))
		give(w, struct{}{})
	})
	mux.HandleFunc("POST /mood", func(w http.ResponseWriter, r *http.Request) {
		var m Mood
		if take(w, r, &m) {
			a.mu.Lock()
			a.mood = m
			a.mu.Unlock()
			give(w, struct{}{})
		}
	})
	return mux
}

func take(w http.ResponseWriter, r *http.Request, v any) bool {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		http.Error(w, "the order is no JSON: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func give(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// Stage sends orders to actors.
type Stage struct {
	// Post sends a body to the path of an actor's control port, and returns
	// the answer's. It must be safe for concurrent use.
	Post func(ctx context.Context, actor, path string, query url.Values, body io.Reader) ([]byte, error)
}

// Call has a client make calls.
func (s *Stage) Call(ctx context.Context, client string, c Call) ([]Result, error) {
	var out Answers
	err := s.order(ctx, client, "/call", "", c, &out)
	return out.Results, err
}

// Hold has a client begin a conversation and keep it under a name.
func (s *Stage) Hold(ctx context.Context, client, name string, c Call) (Result, error) {
	var out Result
	err := s.order(ctx, client, "/hold", name, c, &out)
	return out, err
}

// Say has a client go on with a conversation.
func (s *Stage) Say(ctx context.Context, client, name string) (Result, error) {
	var out Result
	err := s.order(ctx, client, "/say", name, nil, &out)
	return out, err
}

// begun is the answer to the order to begin a flow.
type begun struct{ Key string }

// Flow has a client begin a conversation that goes on by itself until Flowed. It
// returns the key by which servers know its requests, and does not wait for any
// of them.
func (s *Stage) Flow(ctx context.Context, client, name string, c Call) (key string, err error) {
	var out begun
	err = s.order(ctx, client, "/flow", name, c, &out)
	return out.Key, err
}

// Arrived asks a server how many requests of a flow it has got, by the flow's key;
// those that it has not answered yet are among them.
func (s *Stage) Arrived(ctx context.Context, server, key string) (int, error) {
	var n int
	err := s.order(ctx, server, "/arrived", key, nil, &n)
	return n, err
}

// Flowed ends a flow and returns what its requests and lines came to.
func (s *Stage) Flowed(ctx context.Context, client, name string) ([]Result, error) {
	var out Answers
	err := s.order(ctx, client, "/flowed", name, nil, &out)
	return out.Results, err
}

// Release has a client end all its conversations whose names begin so.
func (s *Stage) Release(ctx context.Context, client, prefix string) error {
	return s.order(ctx, client, "/release", prefix, nil, nil)
}

// Be puts a server into a mood; the zero value is the good one.
func (s *Stage) Be(ctx context.Context, server string, m Mood) error {
	return s.order(ctx, server, "/mood", "", m, nil)
}

func (s *Stage) order(ctx context.Context, actor, path, name string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	query := url.Values{}
	if name != "" {
		query.Set("name", name)
	}
	raw, err := s.Post(ctx, actor, path, query, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s of %s: %w", path, actor, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s of %s answered %.200q: %w", path, actor, raw, err)
	}
	return nil
}
