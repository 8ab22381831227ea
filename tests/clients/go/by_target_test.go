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

func TestByTargetEachHMCHasOneSession(t *testing.T) {
	f := startFleet(t, byTarget()...)
	f.callAll(t)
	before := f.onlyReplicas(t)
	aliases := map[string]int{}
	for _, replica := range before {
		aliases[replica]++
	}
	if len(aliases) < 2 {
		t.Errorf("one replica serves all HMCs: %v", before)
	}

	stopped := f.replicas[0]
	if aliases[stopped.name] == 0 {
		t.Fatalf("%s serves no HMC: %v", stopped.name, before)
	}
	// The calls before, during and after the stop succeed. During the stop, both replicas may have a session.
	var stopping sync.WaitGroup
	stopping.Go(func() { stopped.stop(t) })
	f.callAll(t)
	stopping.Wait()
	f.callAll(t)
	for alias, hmc := range f.hmcs {
		logons, open, _ := hmc.history()
		want := []string{before[alias]}
		if before[alias] == stopped.name {
			want = append(want, logons[len(logons)-1])
		}
		if !slices.Equal(logons, want) || open != 1 || logons[len(logons)-1] == stopped.name {
			t.Errorf("%s of %s: logons of %q, %d open", alias, before[alias], logons, open)
		}
	}
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
