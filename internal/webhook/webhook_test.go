package webhook_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/linkerd-go/linkerd-go/internal/leaks"
	"github.com/linkerd-go/linkerd-go/internal/webhook"
)

func TestMain(m *testing.M) { leaks.VerifyTestMain(m) }

// writePair writes a new self-signed certificate for localhost with the given common name.
func writePair(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{"localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"tls.crt": {Type: "CERTIFICATE", Bytes: der},
		"tls.key": {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newServer(t *testing.T, dir string, admit webhook.Admit) (*webhook.Server, *webhook.Certificate) {
	t.Helper()
	cert, err := webhook.LoadCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	return webhook.New(webhook.Options{
		Addr: "127.0.0.1:0", Certificate: cert, Admit: admit, Logger: slog.New(slog.DiscardHandler),
	}), cert
}

func TestAnswers(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "one")
	srv, _ := newServer(t, dir, func(_ context.Context, r *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
		if r.Name == "bad" {
			return nil, errors.New("no such luck")
		}
		return &admissionv1.AdmissionResponse{Allowed: true, Result: &metav1.Status{Message: "fine"}}, nil
	})
	for _, c := range []struct {
		name, body string
		status     int
		contains   []string
	}{
		{"empty body", "", 200, nil},
		{"not JSON", "{", 400, []string{"decoding admission review"}},
		{"no request", `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, 400, []string{"request.uid"}},
		{"no uid", `{"kind":"AdmissionReview","request":{"name":"x"}}`, 400, []string{"request.uid"}},
		{"too large", `{"kind":"` + strings.Repeat("x", 10<<20) + `"}`, 500, []string{"too large"}},
		{"allowed", `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1","name":"x","object":{"a":1}}}`, 200,
			[]string{`"apiVersion":"admission.k8s.io/v1"`, `"object":{"a":1}`, `"response":{"uid":"u1","allowed":true`, `"message":"fine"`}},
		{"the version asked in", `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"u2","name":"x"}}`, 200,
			[]string{`"apiVersion":"admission.k8s.io/v1beta1"`, `"uid":"u2","allowed":true`}},
		{"an error denies", `{"kind":"AdmissionReview","request":{"uid":"u3","name":"bad"}}`, 200,
			[]string{`"uid":"u3","allowed":false`, `"message":"no such luck"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			srv.ServeHTTP(rec, httptest.NewRequest("POST", "/any/path", strings.NewReader(c.body)))
			if rec.Code != c.status {
				t.Fatalf("got %d %s, want %d", rec.Code, rec.Body, c.status)
			}
			if c.body == "" && rec.Body.Len() != 0 {
				t.Fatalf("got %q, want an empty body", rec.Body)
			}
			for _, want := range c.contains {
				if !strings.Contains(rec.Body.String(), want) {
					t.Errorf("got %s, want %s in it", rec.Body, want)
				}
			}
		})
	}
}

// TestReload follows one server over a good and a bad change of its certificate, as seen by its clients.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "one")
	srv, cert := newServer(t, dir, func(context.Context, *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	})
	lis, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, lis) }()

	ask := func() (peer string) {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS13}}
		defer transport.CloseIdleConnections()
		body, _ := json.Marshal(admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "u"}})
		resp, err := (&http.Client{Transport: transport}).Post("https://"+lis.Addr().String()+"/", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		if !strings.Contains(string(answer), `"allowed":true`) {
			t.Fatalf("got %s", answer)
		}
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	if got := ask(); got != "one" {
		t.Fatalf("got %s", got)
	}
	writePair(t, dir, "two")
	if err := cert.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != "two" {
		t.Fatalf("got %s after a good change", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cert.Reload() == nil {
		t.Fatal("want an error")
	}
	if got := ask(); got != "two" {
		t.Fatalf("got %s after a bad change", got)
	}
	if _, err := tls.Dial("tcp", lis.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Fatal("a TLS 1.2 client was let in")
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestLingers asks a server that has been told to stop, as the API server does that has not heard of it.
func TestLingers(t *testing.T) {
	dir := t.TempDir()
	writePair(t, dir, "one")
	cert, err := webhook.LoadCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := webhook.New(webhook.Options{
		Addr: "127.0.0.1:0", Certificate: cert, Linger: time.Hour, Logger: slog.New(slog.DiscardHandler),
		Admit: func(context.Context, *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
			return &admissionv1.AdmissionResponse{Allowed: true}, nil
		},
	})
	lis, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, lis) }()
	cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for range 3 {
		response, err := client.Post("https://"+lis.Addr().String(), "application/json", strings.NewReader(`{"request":{"uid":"u1"}}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !strings.Contains(string(body), `"allowed":true`) {
			t.Errorf("got %s, %v", body, err)
		}
	}
	// A server that cannot go on does not linger.
	lis.Close()
	if err := <-served; err == nil {
		t.Error("a listener that is closed is no error")
	}
}

// TestStopsInTime stops a server while a review is under way. Admit decides for as long as the case says, counted from the stop,
// or until the request ends.
func TestStopsInTime(t *testing.T) {
	const linger = 3 * time.Second
	for _, c := range []struct {
		name     string
		decides  time.Duration
		answered bool
	}{
		{name: "a review that is decided while the server lingers", decides: 2 * time.Second, answered: true},
		{name: "a review that is decided in the time to stop", decides: 7 * time.Second, answered: true},
		{name: "a review that takes longer is cut off", decides: time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := webhook.New(webhook.Options{
					Linger: linger, Logger: slog.New(slog.DiscardHandler),
					Admit: func(ctx context.Context, _ *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
						select {
						case <-time.After(c.decides):
						case <-ctx.Done():
						}
						return &admissionv1.AdmissionResponse{Allowed: true}, nil
					},
				})
				lis := bufconn.Listen(1 << 10)
				ctx, cancel := context.WithCancel(t.Context())
				begin := time.Now()
				var ended time.Duration
				served := make(chan error, 1)
				go func() {
					err := srv.Serve(ctx, lis)
					ended = time.Since(begin)
					served <- err
				}()
				conn, err := lis.Dial()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				const body = `{"request":{"uid":"u1"}}`
				if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				cancel()
				// The server closes the connection either way, and everything that it started ends, or the bubble would not.
				answer, _ := io.ReadAll(conn)
				if answered := strings.Contains(string(answer), `"allowed":true`); answered != c.answered {
					t.Errorf("got %q", answer)
				}
				if err := <-served; err != nil {
					t.Error(err)
				}
				// In virtual time the limit is met to the nanosecond.
				if limit := linger + 5*time.Second; ended < linger || ended > limit || !c.answered && ended != limit {
					t.Errorf("the server ended after %v", ended)
				}
			})
		})
	}
}
