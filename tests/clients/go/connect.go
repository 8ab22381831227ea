package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// serviceConfig configures load balancing and retries of the library. The trailer
// grpc-retry-pushback-ms controls these retries: it contains the delay if the server refused the call before the first
// DELETE, for the reasons in docs/clients.md. Otherwise it is -1, which stops them. The backoff applies if the
// connection could not be established or was lost.
const serviceConfig = `{
  "loadBalancingConfig": [{"round_robin": {}}],
  "methodConfig": [{
    "name": [{"service": "useradmin.v1.UserAdmin"}],
    "retryPolicy": {
      "maxAttempts": 3,
      "initialBackoff": "0.2s",
      "maxBackoff": "5s",
      "backoffMultiplier": 2,
      "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]
    }
  }]
}`

// connect creates a client connection. It is established by the first call, and again whenever it is lost. The options
// can replace the defaults.
func connect(
	address string, transport credentials.TransportCredentials, options ...grpc.DialOption,
) (*grpc.ClientConn, error) {
	defaults := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// Without keepalive, an unreachable server is detected only after many minutes.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	return grpc.NewClient(address, append(defaults, options...)...)
}

// trust returns a configuration that accepts servers whose certificate was issued by the authority in the file.
func trust(caFile string) (*tls.Config, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s contains no certificate", caFile)
	}
	return &tls.Config{RootCAs: roots}, nil
}

// showCertificate configures mutual TLS. The files are read for each handshake, and the server asks for a new connection
// twice an hour, so that a renewed certificate needs no restart.
func showCertificate(config *tls.Config, certFile, keyFile string) {
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		return &pair, err
	}
}

// tokenFile sends the bearer token in the file with each call. It is read each time, because tokens expire after minutes.
type tokenFile string

func (file tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := os.ReadFile(string(file))
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(string(token))}, nil
}

// RequireTransportSecurity prevents the token from being sent in plaintext.
func (tokenFile) RequireTransportSecurity() bool { return true }
