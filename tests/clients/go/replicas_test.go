package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// maxInFlight is the bulkhead of each replica for each HMC.
const maxInFlight = 4

// until waits until the condition holds.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout: %s", what)
		}
	}
}

// simulatedHMC is an HMC that has every user ID. Replicas log on with their own names.
type simulatedHMC struct {
	url string

	mutex sync.Mutex
	// logons has the name of the replica of each logon.
	logons []string
	// sessions has the open sessions.
	sessions map[string]bool
	// inFlight is the number of requests in progress, and mostInFlight the largest number so far.
	inFlight, mostInFlight int
}

func simulateHMC(t *testing.T) *simulatedHMC {
	t.Helper()
	hmc := &simulatedHMC{sessions: map[string]bool{}}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /api/sessions", hmc.logon)
	routes.HandleFunc("DELETE /api/sessions/this-session", hmc.logoff)
	routes.HandleFunc("GET /api/users/{id}", hmc.user(func(response http.ResponseWriter, request *http.Request) {
		id := request.PathValue("id")
		reply(response, map[string]string{"object-id": id, "name": "user-" + id, "type": "standard"})
	}))
	routes.HandleFunc("DELETE /api/users/{id}", hmc.user(func(response http.ResponseWriter, _ *http.Request) {
		response.WriteHeader(http.StatusNoContent)
	}))
	server := httptest.NewServer(routes)
	t.Cleanup(server.Close)
	hmc.url = server.URL
	return hmc
}

func reply(response http.ResponseWriter, document any) {
	response.Header().Set("Content-Type", "application/json")
	json.NewEncoder(response).Encode(document)
}

func (hmc *simulatedHMC) logon(response http.ResponseWriter, request *http.Request) {
	var credentials struct{ Userid string }
	if err := json.NewDecoder(request.Body).Decode(&credentials); err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		return
	}
	hmc.mutex.Lock()
	defer hmc.mutex.Unlock()
	hmc.logons = append(hmc.logons, credentials.Userid)
	session := fmt.Sprintf("session-of-%s-%020d", credentials.Userid, len(hmc.logons))
	hmc.sessions[session] = true
	reply(response, map[string]string{"api-session": session})
}

func (hmc *simulatedHMC) logoff(response http.ResponseWriter, request *http.Request) {
	hmc.mutex.Lock()
	defer hmc.mutex.Unlock()
	delete(hmc.sessions, request.Header.Get("X-API-Session"))
	response.WriteHeader(http.StatusNoContent)
}

// user counts the requests in progress, and refuses requests without a session.
func (hmc *simulatedHMC) user(handle http.HandlerFunc) http.HandlerFunc {
	begin := func(session string) bool {
		hmc.mutex.Lock()
		defer hmc.mutex.Unlock()
		hmc.inFlight++
		hmc.mostInFlight = max(hmc.mostInFlight, hmc.inFlight)
		return hmc.sessions[session]
	}
	end := func() {
		hmc.mutex.Lock()
		defer hmc.mutex.Unlock()
		hmc.inFlight--
	}
	return func(response http.ResponseWriter, request *http.Request) {
		defer end()
		if !begin(request.Header.Get("X-API-Session")) {
			http.Error(response, "no session", http.StatusInternalServerError)
			return
		}
		handle(response, request)
	}
}

// history returns the replicas that have logged on, the number of open sessions, and the most requests at a time.
func (hmc *simulatedHMC) history() (logons []string, open, mostInFlight int) {
	hmc.mutex.Lock()
	defer hmc.mutex.Unlock()
	return append(logons, hmc.logons...), len(hmc.sessions), hmc.mostInFlight
}

// replica is one of several servers with the same targets.
type replica struct {
	name, address, folder string
	process               *exec.Cmd
}

// startReplica starts a server that logs on to the HMCs, by alias, with its own name.
func startReplica(t *testing.T, name string, hmcs map[string]*simulatedHMC) *replica {
	t.Helper()
	folder := t.TempDir()
	config := new(strings.Builder)
	fmt.Fprint(config, "[server]\nlisten = \"127.0.0.1:0\"\n[audit]\nfile = \"audit/audit.jsonl\"\n")
	fmt.Fprint(config, "[[callers]]\nidentity = \"anonymous\"\nallow = [{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }]\n")
	for alias, hmc := range hmcs {
		fmt.Fprintf(config, "[hmcs.%s]\nurl = %q\nuserid = %q\npassword_file = \"password\"\nmax_in_flight = %d\n",
			alias, hmc.url, name, maxInFlight)
	}
	for file, content := range map[string]string{"useradmin.toml": config.String(), "password": "secret"} {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	output, log := filepath.Join(folder, "stdout"), filepath.Join(folder, "stderr")
	process := exec.Command(environment(t, "USERADMIN_PROGRAM"), "serve", "--config", filepath.Join(folder, "useradmin.toml"))
	process.Stdout, process.Stderr = create(t, output), create(t, log)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	started := &replica{name: name, folder: folder, process: process}
	t.Cleanup(func() {
		started.stop(t)
		if content, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("the log of %s:\n%s", name, content)
		}
	})
	until(t, "the start of "+name, func() bool {
		content, err := os.ReadFile(output)
		line, _, complete := bytes.Cut(content, []byte("\n"))
		started.address = strings.TrimPrefix(string(line), "listening on ")
		return err == nil && complete
	})
	return started
}

func create(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

// stop stops the server and waits until it has logged off.
func (r *replica) stop(t *testing.T) {
	if r.process.ProcessState != nil {
		return
	}
	r.process.Process.Signal(syscall.SIGTERM)
	if err := r.process.Wait(); err != nil {
		t.Errorf("%s: %v", r.name, err)
	}
}

// failAuditLog removes the folder of the audit log, so that the server refuses deletions.
func (r *replica) failAuditLog(t *testing.T) {
	t.Helper()
	if err := os.Rename(filepath.Join(r.folder, "audit"), filepath.Join(r.folder, "removed")); err != nil {
		t.Fatal(err)
	}
}
