// Offboarding deletes one user by the gRPC service useradmin:
//
//	offboarding -ca ca.pem -cert client.pem -key client.key batch POOL NODE USER
//	offboarding -ca ca.pem -token token hmc USER
//	offboarding -plaintext -validate-only hmc USER
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

type options struct {
	address, ca, cert, key, token string
	timeout                       time.Duration
	plaintext                     bool
	allowMissing, validateOnly    bool
	user                          []string
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string, output io.Writer) error {
	o, err := parse(arguments)
	if err != nil {
		return err
	}
	connection, err := o.connect()
	if err != nil {
		return err
	}
	defer connection.Close()

	// Every call needs a deadline. The server applies 30 seconds if there is none, and 60 at most.
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	outcome, err := o.delete(ctx, useradminv1.NewUserAdminClient(connection))
	if err != nil {
		return failureOf(err)
	}
	fmt.Fprintln(output, outcome)
	return nil
}

func parse(arguments []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("offboarding", flag.ContinueOnError)
	flags.StringVar(&o.address, "address", "localhost:50051", "`host:port` of the server")
	flags.BoolVar(&o.plaintext, "plaintext", false, "connect without TLS and without credentials")
	flags.StringVar(&o.ca, "ca", "ca.pem", "`file` with the authority of the server's certificate")
	flags.StringVar(&o.cert, "cert", "", "`file` with a client certificate")
	flags.StringVar(&o.key, "key", "", "`file` with its key")
	flags.StringVar(&o.token, "token", "", "`file` with a bearer token")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "time that the call may take")
	flags.BoolVar(&o.allowMissing, "allow-missing", false, "an absent user is a success")
	flags.BoolVar(&o.validateOnly, "validate-only", false, "check the request without deleting the user")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: offboarding [flags] batch POOL NODE USER\n       offboarding [flags] hmc USER")
		flags.PrintDefaults()
	}
	if err := flags.Parse(arguments); err != nil {
		return o, err
	}
	if (o.cert == "") != (o.key == "") {
		return o, errors.New("-cert and -key belong together")
	}
	if o.plaintext && (o.cert != "" || o.token != "") {
		return o, errors.New("-plaintext excludes -cert and -token")
	}
	o.user = flags.Args()
	if !(len(o.user) == 4 && o.user[0] == "batch" || len(o.user) == 2 && o.user[0] == "hmc") {
		return o, errors.New("say whom to delete: batch POOL NODE USER, or hmc USER")
	}
	return o, nil
}

func (o options) connect() (*grpc.ClientConn, error) {
	if o.plaintext {
		return connect(o.address, insecure.NewCredentials())
	}
	config, err := trust(o.ca)
	if err != nil {
		return nil, err
	}
	if o.cert != "" {
		showCertificate(config, o.cert, o.key)
	}
	if o.token != "" {
		return connect(o.address, credentials.NewTLS(config), grpc.WithPerRPCCredentials(tokenFile(o.token)))
	}
	return connect(o.address, credentials.NewTLS(config))
}

func (o options) delete(ctx context.Context, client useradminv1.UserAdminClient) (useradminv1.DeleteOutcome, error) {
	if o.user[0] == "hmc" {
		response, err := client.DeleteHmcUser(ctx, &useradminv1.DeleteHmcUserRequest{
			User:         &useradminv1.DeleteHmcUserRequest_UserName{UserName: o.user[1]},
			AllowMissing: o.allowMissing,
			ValidateOnly: o.validateOnly,
		})
		return response.GetOutcome(), err
	}
	response, err := client.DeleteBatchNodeUser(ctx, &useradminv1.DeleteBatchNodeUserRequest{
		PoolId:       o.user[1],
		NodeId:       o.user[2],
		UserName:     o.user[3],
		AllowMissing: o.allowMissing,
		ValidateOnly: o.validateOnly,
	})
	return response.GetOutcome(), err
}
