package main

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/ringhash" // registers ring_hash_experimental
	_ "google.golang.org/grpc/health"            // implements healthCheckConfig
	"google.golang.org/grpc/metadata"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

// targetHeader contains the alias of the target. Clients and proxies select a server by it; servers ignore it.
const targetHeader = "x-useradmin-target"

// byTarget returns options of connect that send all calls for one target to the same server. Calls without an alias are
// sent to any server. Because a retry would be sent to the same server, the library watches the health of all servers, and
// selects the next one while a server cannot serve.
func byTarget() []grpc.DialOption {
	ringHash := `{"ring_hash_experimental": {"requestHashHeader": "` + targetHeader + `"}}],
  "healthCheckConfig": {"serviceName": "useradmin.v1.UserAdmin"}`
	return []grpc.DialOption{
		grpc.WithDefaultServiceConfig(strings.Replace(serviceConfig, `{"round_robin": {}}]`, ringHash, 1)),
		grpc.WithChainUnaryInterceptor(sendTarget),
	}
}

// sendTarget sends the alias of the request in the header, too.
func sendTarget(
	ctx context.Context, method string, request, response any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	var alias string
	switch request := request.(type) {
	case *useradminv1.DeleteBatchNodeUserRequest:
		alias = request.GetAccount()
	case *useradminv1.DeleteHmcUserRequest:
		alias = request.GetHmc()
	}
	if alias != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, targetHeader, alias)
	}
	return invoke(ctx, method, request, response, connection, options...)
}
