package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/resolver/ringhash"

	useradminv1 "example.com/offboarding/gen/useradmin/v1"
)

const userID = "0a1b2c3d-0000-4000-8000-000000000001"

// fleet is several replicas, their HMCs by alias, and two clients that know the addresses of all replicas.
type fleet struct {
	hmcs     map[string]*simulatedHMC
	replicas []*replica
	clients  []useradminv1.UserAdminClient
}

func startFleet(t *testing.T, options ...grpc.DialOption) *fleet {
	t.Helper()
	f := &fleet{hmcs: map[string]*simulatedHMC{}}
	for n := range 6 {
		f.hmcs[fmt.Sprintf("hmc-%d", n)] = simulateHMC(t)
	}
	var state resolver.State
	for n := range 3 {
		started := startReplica(t, fmt.Sprintf("replica-%d", n), f.hmcs)
		f.replicas = append(f.replicas, started)
		endpoint := resolver.Endpoint{Addresses: []resolver.Address{{Addr: started.address}}}
		// By default the place of a server depends on its address, whose port is different in each run.
		state.Endpoints = append(state.Endpoints, ringhash.SetHashKey(endpoint, started.name))
	}
	for range 2 {
		addresses := manual.NewBuilderWithScheme("fleet")
		addresses.InitialState(state)
		all := append([]grpc.DialOption{grpc.WithResolvers(addresses)}, options...)
		connection, err := connect("fleet:///useradmin", insecure.NewCredentials(), all...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { connection.Close() })
		f.clients = append(f.clients, useradminv1.NewUserAdminClient(connection))
	}
	return f
}

// callAll makes concurrent calls of both clients for each HMC. All of them must succeed.
func (f *fleet) callAll(t *testing.T) {
	t.Helper()
	ctx := within(t, 30*time.Second)
	var calls sync.WaitGroup
	for alias := range f.hmcs {
		for n := range 16 {
			calls.Go(func() {
				request := &useradminv1.DeleteHmcUserRequest{
					Hmc: alias, User: &useradminv1.DeleteHmcUserRequest_UserId{UserId: userID},
				}
				if _, err := f.clients[n%len(f.clients)].DeleteHmcUser(ctx, request); err != nil {
					t.Error(alias, failureOf(err))
				}
			})
		}
	}
	calls.Wait()
}

// onlyReplicas returns the replica of each HMC. No other one may have logged on, nor may the first one have done so twice.
func (f *fleet) onlyReplicas(t *testing.T) map[string]string {
	t.Helper()
	serving := map[string]string{}
	for alias, hmc := range f.hmcs {
		logons, open, mostInFlight := hmc.history()
		if len(logons) != 1 || open != 1 || mostInFlight > maxInFlight {
			t.Fatalf("%s: logons of %q, %d open, %d requests at a time", alias, logons, open, mostInFlight)
		}
		serving[alias] = logons[0]
	}
	return serving
}

// serve makes the first calls, and returns the replica of each HMC. The first replica must serve some of them, not all.
func (f *fleet) serve(t *testing.T) (serving map[string]string) {
	t.Helper()
	f.callAll(t)
	serving = f.onlyReplicas(t)
	ofFirst := 0
	for _, name := range serving {
		if name == f.replicas[0].name {
			ofFirst++
		}
	}
	if ofFirst == 0 || ofFirst == len(serving) {
		t.Fatalf("%s serves %d of %v", f.replicas[0].name, ofFirst, serving)
	}
	return serving
}

// moved fails if any HMC was moved that the first replica had not served, or if one that it had served was not moved
// once.
func (f *fleet) moved(t *testing.T, before map[string]string) {
	t.Helper()
	for alias, hmc := range f.hmcs {
		logons, _, _ := hmc.history()
		last := logons[len(logons)-1]
		want := []string{before[alias]}
		if before[alias] == f.replicas[0].name {
			want = append(want, last)
		}
		if !slices.Equal(logons, want) || last == f.replicas[0].name {
			t.Errorf("%s of %s: logons of %q", alias, before[alias], logons)
		}
	}
}

func TestByTargetEachHMCHasOneSession(t *testing.T) {
	f := startFleet(t, byTarget()...)
	before := f.serve(t)

	// The calls during and after the stop of a replica succeed. It logs off.
	var stopping sync.WaitGroup
	stopping.Go(func() { f.replicas[0].stop(t) })
	f.callAll(t)
	stopping.Wait()
	f.callAll(t)
	f.moved(t, before)
	for alias, hmc := range f.hmcs {
		if _, open, _ := hmc.history(); open != 1 {
			t.Errorf("%s has %d sessions", alias, open)
		}
	}
}

func TestByTargetAnUnhealthyReplicaIsNotCalled(t *testing.T) {
	f := startFleet(t, byTarget()...)
	before := f.serve(t)
	f.replicas[0].failAuditLog(t)
	f.callAll(t)
	f.moved(t, before)
}

func TestByRoundRobinEachReplicaHasASession(t *testing.T) {
	f := startFleet(t)
	until(t, "a session of each replica at each HMC", func() bool {
		f.callAll(t)
		for _, hmc := range f.hmcs {
			if _, open, _ := hmc.history(); open < len(f.replicas) {
				return false
			}
		}
		return true
	})
}
