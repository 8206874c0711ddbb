package lab

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/linkerd-go/linkerd-go/proxy/meshtls/testca"
)

// Packages of Debian that the yardsticks come from, by the program that shows
// that one is installed.
var packages = map[string]string{"nginx": "nginx-light", "haproxy": "haproxy", "taskset": "util-linux"}

// Install installs what is missing.
func Install() error {
	var missing []string
	for program, name := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, name)
		}
	}
	if missing == nil {
		return nil
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, missing...)} {
		cmd := exec.Command("apt-get", args...)
		// Only the program is wanted; its service must not take port 80.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// nginxGlobal begins each configuration of nginx: one worker, nothing logged.
const nginxGlobal = `worker_processes 1;
pid DIR/NAME.pid;
error_log stderr error;
daemon off;
events { worker_connections 12000; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path DIR/NAME-body;
  proxy_temp_path DIR/NAME-proxy;
  fastcgi_temp_path DIR/NAME-fastcgi;
  uwsgi_temp_path DIR/NAME-uwsgi;
  scgi_temp_path DIR/NAME-scgi;
  client_max_body_size 0;
  client_body_buffer_size 128k;
  sendfile on;
  tcp_nodelay on;
`

// nginxApp is the application: 64 bytes, or a body of the path's size, also for
// POST.
const nginxApp = nginxGlobal + `
  server {
    listen 8080;
    listen 9080;
    root DIR/www;
    location = / { return 200 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"; }
    location / { error_page 405 =200 $uri; }
  }
}
`

// nginxHop is the yardstick: a reverse proxy that keeps its connections, without
// and with mTLS.
const nginxHop = nginxGlobal + `
  upstream app { server 127.0.0.1:8080; keepalive 128; keepalive_requests 1000000000; }
  upstream grpc { server 127.0.0.1:8081; keepalive 32; keepalive_requests 1000000000; }
  server {
    listen 9001;
    listen 9031 ssl;
    ssl_certificate DIR/server.pem;
    ssl_certificate_key DIR/server.pem;
    ssl_client_certificate DIR/ca.pem;
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_buffers 16 16k;
    }
  }
  server {
    listen 9011 http2;
    location / { grpc_pass grpc://grpc; grpc_read_timeout 1h; grpc_send_timeout 1h; }
  }
}
`

// nginxFirst is the first of two hops, without and with mTLS between them.
const nginxFirst = nginxGlobal + `
  upstream app { server 10.77.0.2:9001; keepalive 128; keepalive_requests 1000000000; }
  upstream mtls { server 10.77.0.2:9031; keepalive 128; keepalive_requests 1000000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $host;
  server {
    listen 127.0.0.1:9004;
    location / { proxy_pass http://app; }
  }
  server {
    listen 127.0.0.1:9006;
    location / {
      proxy_pass https://mtls;
      proxy_ssl_certificate DIR/client.pem;
      proxy_ssl_certificate_key DIR/client.pem;
      proxy_ssl_trusted_certificate DIR/ca.pem;
      proxy_ssl_verify on;
      proxy_ssl_name SERVER;
      proxy_ssl_server_name on;
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    }
  }
}
`

// haproxyGlobal is for one thread. Go prefers the shorter of the two AES keys
// of TLS 1.3 and OpenSSL the longer one; both get the shorter.
const haproxyGlobal = `global
  nbthread 1
  maxconn 6000
  tune.ssl.default-dh-param 2048
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  option splice-auto
`

const haproxyHop = haproxyGlobal + `
listen http
  mode http
  bind :9002
  http-reuse always
  server app 127.0.0.1:8080
listen grpc
  mode http
  bind :9012 proto h2
  http-reuse always
  server app 127.0.0.1:8081 proto h2
listen tcp
  mode tcp
  bind :9003
  server app 127.0.0.1:8082
listen mtls
  mode tcp
  bind :9022 ssl crt DIR/server.pem ca-file DIR/ca.pem verify required
  server app 127.0.0.1:8082
`

const haproxyFirst = haproxyGlobal + `
listen http
  mode http
  bind 127.0.0.1:9005
  http-reuse always
  server next 10.77.0.2:9002
listen mtls
  mode tcp
  bind 127.0.0.1:9021
  server next 10.77.0.2:9022 ssl crt DIR/client.pem ca-file DIR/ca.pem verify required sni str(SERVER) verifyhost SERVER
`

// applications starts what is served.
func (l *Lab) applications() {
	if err := os.Mkdir(l.path("www"), 0o755); err != nil {
		l.host.Fatal(err)
	}
	for name, size := range map[string]int{"1k": 1 << 10, "64k": 64 << 10} {
		l.write("www/"+name, strings.Repeat("x", size))
	}
	l.write("app.conf", nginxApp)
	l.start("app", l.server, true, l.others, nil, "nginx", "-p", l.dir, "-c", l.path("app.conf"))
	l.start("echo", l.server, true, l.others, nil, l.path("bench"), "app", "echo", ":8081", ":9081")
	l.start("bulk", l.server, true, l.others, nil, l.path("bench"), "app", "bulk", ":8082", ":9082")
}

// write writes a file into the folder, with what stands for the lab's values
// replaced.
func (l *Lab) write(name, text string) {
	stem, _, _ := strings.Cut(name, ".")
	text = strings.NewReplacer("DIR", l.dir, "NAME", stem, "SERVER", serverID).Replace(text)
	if err := os.WriteFile(l.path(name), []byte(text), 0o644); err != nil {
		l.host.Fatal(err)
	}
}

// yardsticks starts nginx and HAProxy, in both pods.
func (l *Lab) yardsticks() {
	l.certificates()
	// nginx makes its folders for temporary files itself.
	if err := os.Chmod(l.dir, 0o777); err != nil {
		l.host.Fatal(err)
	}
	l.write("nginx.conf", nginxHop)
	l.write("nginx-client.conf", nginxFirst)
	l.write("haproxy.cfg", haproxyHop)
	l.write("haproxy-client.cfg", haproxyFirst)
	l.Nginx = l.start("nginx", l.server, false, l.measured, nil, "nginx", "-p", l.dir, "-c", l.path("nginx.conf"))
	l.NginxClient = l.start("nginx-client", l.client, false, l.measured, nil, "nginx", "-p", l.dir, "-c", l.path("nginx-client.conf"))
	l.HAProxy = l.start("haproxy", l.server, false, l.measured, nil, "haproxy", "-db", "-f", l.path("haproxy.cfg"))
	l.HAProxyClient = l.start("haproxy-client", l.client, false, l.measured, nil, "haproxy", "-db", "-f", l.path("haproxy-client.cfg"))
}

// certificates writes those of nginx and HAProxy, of the same kind as the proxies'.
func (l *Lab) certificates() {
	l.write("ca.pem", string(l.ca.PEM))
	for name, id := range map[string]string{"client.pem": clientID, "server.pem": serverID} {
		key := testca.NewKey(l.host)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			l.host.Fatal(err)
		}
		var b strings.Builder
		for _, c := range l.ca.Issue(l.host, key.Public(), id) {
			b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}))
		}
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		l.write(name, b.String())
	}
}
