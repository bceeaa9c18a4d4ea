package mongostream_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/mongostream/mongostream/bindings/go"
)

// child is another process of the tests: it ends while waits of every kind are under way.
func child(arguments []string) {
	uri, directory := arguments[0], arguments[1]
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	check(mongostream.SetLogger(slog.Default(), mongostream.LogLevelDebug))
	buffer := mongostream.NewBuffer(10)
	worker, err := buffer.Watch(uri, "d", "c", mongostream.Options{"checkpoint_file": filepath.Join(directory, "token")})
	check(err)
	check(worker.WaitReady(context.Background()))
	lost, err := mongostream.NewBuffer(10).Watch("mongodb://127.0.0.1:1", "d", "c", nil)
	check(err)
	for range 10 {
		go buffer.Recv(context.Background())
		go buffer.RecvBatch(context.Background(), 10)
		go worker.Join(context.Background())
		go lost.WaitReady(context.Background())
	}
	for !buffer.IsWaiting() {
	}
	fmt.Println("waiting")
}
