// Package kubeapi runs a real Kubernetes API server with its etcd for a test:
// no nodes, no kubelet, no other controllers, on the loopback interface. What
// a controller meets there is what it meets in production: real watches that
// expire, real authorization, real admission, and a process that can be killed.
//
//	api := kubeapi.Start(t, program, kubeapi.ServiceAccount("linkerd", "linkerd-identity", "a"))
//	client, err := kubernetes.NewForConfig(api.Config())      // as administrator
//	file := api.Kubeconfig(t, user, api.Address())            // for a controller
//	link := kubeapi.NewLink(t, api.Address())                 // a network between the two, that can fail
//	api.Kill(); api.Revive()
//	for _, e := range api.Audit() { ... }                     // who asked what, and was it allowed
//
// The program is devcluster, which is all components of Kubernetes in one
// binary. A Server's methods are for one goroutine; a Link may be used from any.
package kubeapi

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
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/linkerd-go/linkerd-go/test/controlplane/child"
)

// startLimit is how long a component may take to come up: the machine may be busy.
const startLimit = 90 * time.Second

// User is somebody whom the API server knows by a token.
type User struct {
	Name string
	// UID tells users of one name apart, which to authorization are the same.
	UID    string
	Groups []string
}

func (u User) token() string { return "token-" + u.Name + "-" + u.UID }

// ServiceAccount is the user that a pod with the service account is; replica becomes its UID, so that the audit log tells
// the replicas of a Deployment apart.
func ServiceAccount(namespace, name, replica string) User {
	return User{
		Name: "system:serviceaccount:" + namespace + ":" + name, UID: replica,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace},
	}
}

var administrator = User{Name: "admin", UID: "admin", Groups: []string{"system:masters"}}

// Server is one API server with its etcd.
type Server struct {
	tb            testing.TB
	program, dir  string
	address, etcd string
	ca            []byte
	process       *child.Process
	// starts counts the API servers that there were.
	starts int
}

// Start runs a server until the test is over. Users are those who may talk to it, besides the administrator.
func Start(tb testing.TB, program string, users ...User) *Server {
	tb.Helper()
	s := &Server{tb: tb, program: program, dir: tb.TempDir(), address: "127.0.0.1:" + FreePort(tb), etcd: "127.0.0.1:" + FreePort(tb)}
	s.certificates()
	var tokens strings.Builder
	for _, u := range append(users, administrator) {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", u.token(), u.Name, u.UID, strings.Join(u.Groups, ","))
	}
	s.write("tokens.csv", []byte(tokens.String()))
	// Reads of the tests' own are of no interest. Long requests are told of when they begin, too.
	s.write("audit.yaml", []byte(`apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:masters"]
- level: Metadata
`))
	child.Start(tb, child.Options{Name: "etcd", Quiet: true, Argv: []string{
		program, "etcd", "--data-dir=" + filepath.Join(s.dir, "etcd"),
		"--listen-client-url=http://" + s.etcd, "--listen-peer-url=http://127.0.0.1:" + FreePort(tb),
	}})
	s.await("etcd", func() error { return get(http.DefaultClient, "http://"+s.etcd+"/health", "") })
	s.Revive()
	return s
}

// FreePort returns a TCP port of the loopback interface that nobody uses now.
func FreePort(tb testing.TB) string {
	tb.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer lis.Close()
	_, port, err := net.SplitHostPort(lis.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

func (s *Server) write(name string, data []byte) {
	s.tb.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

// certificates makes the server's certificate and the key that signs tokens of service accounts.
func (s *Server) certificates() {
	s.tb.Helper()
	cert, key, err := SelfSigned("kube-apiserver", "127.0.0.1")
	if err != nil {
		s.tb.Fatal(err)
	}
	s.ca = cert
	s.write("server.crt", cert)
	s.write("server.key", key)
	_, signer, err := SelfSigned("service-accounts")
	if err != nil {
		s.tb.Fatal(err)
	}
	s.write("service-accounts.key", signer)
}

// SelfSigned makes a certificate that is its own authority, for names or IP addresses, and its key, both PEM.
func SelfSigned(name string, hosts ...string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), nil
}

// Address is the API server's host and port.
func (s *Server) Address() string { return s.address }

// Kill ends the API server as a crash would. What it has stored stays, in etcd.
func (s *Server) Kill() { s.process.Kill() }

// Revive starts the API server, which must not run, and waits until it is ready.
func (s *Server) Revive() {
	s.tb.Helper()
	s.starts++
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		s.tb.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.process = child.Start(s.tb, child.Options{Name: fmt.Sprintf("kube-apiserver-%d", s.starts), Quiet: true, Argv: []string{
		s.program, "kube-apiserver",
		"--etcd-servers=http://" + s.etcd,
		// Only when a test asks for it.
		"--etcd-compaction-interval=0",
		"--bind-address=127.0.0.1", "--secure-port=" + port,
		// Nothing has to find the server by its Service.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=RBAC",
		"--token-auth-file=" + file("tokens.csv"),
		// Nobody makes the default service accounts that this would ask for.
		"--disable-admission-plugins=ServiceAccount",
		"--tls-cert-file=" + file("server.crt"), "--tls-private-key-file=" + file("server.key"), "--cert-dir=" + s.dir,
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + file("service-accounts.key"),
		"--service-account-signing-key-file=" + file("service-accounts.key"),
		"--audit-policy-file=" + file("audit.yaml"), "--audit-log-path=" + file("audit.log"),
		"--profiling=false",
	}})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool()}, DisableKeepAlives: true}}
	s.await("kube-apiserver", func() error {
		if !s.process.Running() {
			s.tb.Fatalf("the API server ended:\n%s", s.process.Log())
		}
		return get(client, "https://"+s.address+"/readyz", administrator.token())
	})
}

func (s *Server) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.ca)
	return pool
}

func (s *Server) await(what string, check func() error) {
	s.tb.Helper()
	deadline := time.Now().Add(startLimit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("%s is not ready after %s: %v", what, startLimit, err)
		}
		// Another program, that offers nothing to wait on but asking again.
		time.Sleep(50 * time.Millisecond)
	}
}

func get(client *http.Client, url, token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return err
}

// Config is the administrator's.
func (s *Server) Config() *rest.Config {
	return &rest.Config{
		Host: "https://" + s.address, BearerToken: administrator.token(), QPS: 500, Burst: 1000,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.ca},
	}
}

// Kubeconfig writes a kubeconfig with which a user finds the API server at an address, and returns its path.
func (s *Server) Kubeconfig(tb testing.TB, user User, address string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: "https://" + address, CertificateAuthorityData: s.ca}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {Token: user.token()}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Compact makes etcd forget all but the newest state of everything, as the API server asks it to every few minutes.
func (s *Server) Compact() {
	s.tb.Helper()
	call := func(path, body string) []byte {
		s.tb.Helper()
		response, err := http.Post("http://"+s.etcd+path, "application/json", strings.NewReader(body))
		if err != nil {
			s.tb.Fatal(err)
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			s.tb.Fatalf("etcd %s: %s %s %v", path, response.Status, answer, err)
		}
		return answer
	}
	var answer struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	if err := json.Unmarshal(call("/v3/kv/range", `{"key":"AA=="}`), &answer); err != nil {
		s.tb.Fatal(err)
	}
	call("/v3/kv/compaction", fmt.Sprintf(`{"revision":%q,"physical":true}`, answer.Header.Revision))
}

// Event is a request, as the audit log tells of it.
type Event struct {
	Stage     string `json:"stage"`
	Verb      string `json:"verb"`
	URI       string `json:"requestURI"`
	UserAgent string `json:"userAgent"`
	User      struct {
		Name string `json:"username"`
		UID  string `json:"uid"`
	} `json:"user"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	At          time.Time         `json:"requestReceivedTimestamp"`
	Annotations map[string]string `json:"annotations"`
}

// Forbidden reports whether the request was refused for lack of rights.
func (e *Event) Forbidden() bool { return e.Annotations["authorization.k8s.io/decision"] == "forbid" }

// Audit returns all requests so far but the administrator's, in their order.
func (s *Server) Audit() []Event {
	s.tb.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, "audit.log"))
	if err != nil {
		s.tb.Fatal(err)
	}
	var events []Event
	for line := range bytes.Lines(data) {
		var e Event
		if json.Unmarshal(line, &e) != nil {
			continue // being written now, or cut off by a kill
		}
		events = append(events, e)
	}
	return events
}
