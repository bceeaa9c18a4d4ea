package mongostream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go/internal/ground"
)

func TestProcessEndsWhileWaitsAreUnderWay(t *testing.T) {
	limited, cancel := context.WithTimeout(context.Background(), ground.Deadline)
	defer cancel()
	process := exec.CommandContext(limited, os.Args[0], "child", server.URI, t.TempDir())
	output, err := process.Output()
	if err != nil || string(output) != "waiting\n" {
		t.Errorf("%v, %q", err, output)
	}
}

// example builds the example once.
var example = sync.OnceValues(func() (string, error) {
	program := filepath.Join(ground.Repository(), "target/go/tests/follow")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join(ground.Repository(), "examples/go/follow")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return program, nil
})

// running is the example as a process.
type running struct {
	process *exec.Cmd
	output  *bufio.Reader
	said    *text
}

func run(t *testing.T, arguments ...string) *running {
	t.Helper()
	program, err := example()
	must(t, err)
	process := exec.Command(program, arguments...)
	said := &text{}
	process.Stderr = said
	output, err := process.StdoutPipe()
	must(t, err)
	must(t, process.Start())
	t.Cleanup(func() { process.Process.Kill() })
	return &running{process, bufio.NewReader(output), said}
}

func (r *running) ready(t *testing.T) {
	t.Helper()
	ground.Until(t, "ready", func() bool { return r.said.has("ready\n") })
}

// end sends a signal and gives the exit code, the lines that were still printed, and how long it took.
func (r *running) end(t *testing.T, signal os.Signal) (int, []string, time.Duration) {
	t.Helper()
	begin := time.Now()
	must(t, r.process.Process.Signal(signal))
	rest, err := io.ReadAll(r.output)
	must(t, err)
	r.process.Wait()
	took := time.Since(begin)
	return r.process.ProcessState.ExitCode(), strings.SplitAfter(string(rest), "\n"), took
}

// endsAtOnce allows for a busy machine: the fastest of three counts.
func endsAtOnce(t *testing.T, attempt func() time.Duration) {
	t.Helper()
	fastest := time.Hour
	for range 3 {
		if fastest = min(fastest, attempt()); fastest <= 200*time.Millisecond {
			t.Log("from the signal to the exit:", fastest)
			return
		}
	}
	t.Error("from the signal to the exit:", fastest)
}

func TestSignalEndsAnIdleProgram(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		endsAtOnce(t, func() time.Duration {
			program := run(t, server.URI, server.Database(t).Name(), "c", "checkpoint_file="+filepath.Join(t.TempDir(), "token"))
			program.ready(t)
			code, _, took := program.end(t, signal)
			if code != 0 {
				t.Error(signal, code)
			}
			return took
		})
	}
}

func TestSignalEndsAFullStreamWithItsLastAcksSaved(t *testing.T) {
	const documents = 20_000
	endsAtOnce(t, func() time.Duration {
		collection := server.Database(t).Collection("c")
		arguments := []string{server.URI, collection.Database().Name(), "c", "checkpoint_file=" + filepath.Join(t.TempDir(), "token")}
		program := run(t, arguments...)
		program.ready(t)
		ground.Insert(t, collection, 0, documents)
		lines := 0
		for range 100 {
			_, err := program.output.ReadString('\n')
			must(t, err)
			lines++
		}
		code, rest, took := program.end(t, os.Interrupt)
		lines += len(rest) - 1
		if code != 0 || rest[len(rest)-1] != "" {
			t.Error(code, "and the last line:", rest[len(rest)-1])
		}
		if lines >= documents {
			t.Fatal("the stream was not full any more")
		}
		again := run(t, arguments...)
		line, err := again.output.ReadString('\n')
		must(t, err)
		if id := parsed(t, line)["DocumentKey"].(map[string]any)["_id"]; id != float64(lines) {
			t.Errorf("went on with %v after %d messages", id, lines)
		}
		again.end(t, os.Interrupt)
		return took
	})
}

func TestSignalEndsAProgramWhoseServerIsFrozen(t *testing.T) {
	frozen, err := ground.Start()
	must(t, err)
	defer frozen.Stop()
	process := frozen.Server(t)
	defer process.Signal(syscall.SIGCONT)
	endsAtOnce(t, func() time.Duration {
		must(t, process.Signal(syscall.SIGCONT))
		collection := frozen.Database(t).Collection("c")
		program := run(t, frozen.URI, collection.Database().Name(), "c", "checkpoint_file="+filepath.Join(t.TempDir(), "token"))
		program.ready(t)
		ground.Insert(t, collection, 0, 1)
		_, err := program.output.ReadString('\n')
		must(t, err)
		must(t, process.Signal(syscall.SIGSTOP))
		code, _, took := program.end(t, os.Interrupt)
		if code != 0 {
			t.Error(code, program.said.bytes.String())
		}
		return took
	})
}

func TestExampleSaysWhatIsWrong(t *testing.T) {
	for _, wrong := range []struct {
		arguments []string
		code      int
		said      string
	}{
		{[]string{server.URI}, 2, "usage"},
		{[]string{server.URI, "d", "c", "word"}, 2, "usage"},
		{[]string{server.URI, "d", "c", "no_option=1"}, 1, "no_option"},
		{[]string{"mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", "d", "c"}, 1, "MS_ERR_CONNECT"},
	} {
		program := run(t, wrong.arguments...)
		io.Copy(io.Discard, program.output)
		program.process.Wait()
		if code := program.process.ProcessState.ExitCode(); code != wrong.code || !program.said.has(wrong.said) {
			t.Error(wrong.arguments, code, program.said.bytes.String())
		}
	}
}

func TestExampleFollowsADatabase(t *testing.T) {
	database := server.Database(t)
	program := run(t, server.URI, database.Name(), "-", "operations=insert")
	program.ready(t)
	ground.Insert(t, database.Collection("any"), 0, 1)
	line, err := program.output.ReadString('\n')
	must(t, err)
	if parsed(t, line)["Namespace"].(map[string]any)["Collection"] != "any" {
		t.Error(line)
	}
	program.end(t, os.Interrupt)
}
