// Package ground runs a MongoDB replica set for tests.
package ground

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

// Deadline is how long a test waits for what must happen.
const Deadline = 60 * time.Second

// Set is a replica set of one member.
type Set struct {
	// URI is where it is.
	URI     string
	client  *mongo.Client
	process *exec.Cmd
	input   io.Closer
}

// Repository gives the repository's directory.
func Repository() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../../..")
}

// Start starts a replica set. It dies with this process, or with Stop.
func Start() (*Set, error) {
	program := os.Getenv("MONGOSTREAM_GROUND")
	if program == "" {
		program = filepath.Join(Repository(), "target/debug/ground")
	}
	process := exec.Command(program, "--until-eof")
	process.Stderr = os.Stderr
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s printed no URI: %w", program, err)
	}
	uri := strings.TrimSpace(line)
	client, err := mongo.Connect(context.Background(), options.Client().ApplyURI(uri))
	if err != nil {
		return nil, err
	}
	return &Set{URI: uri, client: client, process: process, input: input}, nil
}

// Stop ends the replica set.
func (s *Set) Stop() {
	s.input.Close()
	_ = s.process.Wait()
}

// Main runs a package's tests with one replica set, which it gives to use first.
func Main(m *testing.M, use func(*Set)) {
	set, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start a replica set:", err)
		os.Exit(1)
	}
	use(set)
	code := m.Run()
	set.Stop()
	os.Exit(code)
}

// Database gives a database of the test's own.
func (s *Set) Database(t testing.TB) *mongo.Database {
	name := strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())
	return s.client.Database(fmt.Sprintf("%.40s_%d", name, time.Now().UnixNano()%1_000_000_000))
}

// Server gives the process of the server.
func (s *Set) Server(t testing.TB) *os.Process {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.process.Process.Pid, s.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found, err := strconv.Atoi(strings.TrimSpace(string(children)))
	if err != nil {
		// Another thread may have started it.
		all, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.process.Process.Pid))
		for _, file := range all {
			children, _ := os.ReadFile(file)
			if found, err = strconv.Atoi(strings.TrimSpace(string(children))); err == nil {
				break
			}
		}
	}
	if err != nil {
		t.Fatal("ground has no child: ", err)
	}
	server, err := os.FindProcess(found)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// Insert inserts documents with the _ids from to until-1.
func Insert(t testing.TB, collection *mongo.Collection, from, until int) {
	t.Helper()
	var documents []any
	for id := from; id < until; id++ {
		documents = append(documents, bson.M{"_id": id})
	}
	if _, err := collection.InsertMany(context.Background(), documents); err != nil {
		t.Fatal(err)
	}
}

// Until waits until a condition holds.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(Deadline); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within the deadline: ", what)
		}
	}
}

// Forward passes connections to an address on to the replica set. It gives the address, and a function that ends it.
func (s *Set) Forward(address string) (string, func(), error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", nil, err
	}
	parsed, err := url.Parse(s.URI)
	if err != nil {
		return "", nil, err
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", parsed.Host)
			if err != nil {
				client.Close()
				continue
			}
			for _, ends := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					_, _ = io.Copy(ends[0], ends[1])
					ends[0].Close()
				}()
			}
		}
	}()
	return listener.Addr().String(), func() { listener.Close() }, nil
}
