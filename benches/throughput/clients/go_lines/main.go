// mongostream from Go, in batches as JSON lines. Arguments: URI, second, events.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"

	mongostream "github.com/mongostream/mongostream/bindings/go"
)

func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func main() {
	uri, second := os.Args[1], os.Args[2]
	wanted, err := strconv.Atoi(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	buffer := mongostream.NewBuffer(4096)
	defer buffer.Free()
	began, before := time.Now(), cpu()
	if _, err := buffer.Watch(uri, "bench", "orders", mongostream.Options{"start_at_time": second}); err != nil {
		log.Fatal(err)
	}
	events, bytes := 0, 0
	for batch, err := range buffer.Batches(context.Background(), 1000) {
		if err != nil {
			log.Fatal(err)
		}
		bytes += len(batch.Lines())
		events += batch.Len()
		batch.Ack()
		batch.Close()
		if events >= wanted {
			break
		}
	}
	fmt.Println(events, bytes, time.Since(began).Seconds(), cpu()-before)
	_, _ = os.Stdin.Read(make([]byte, 1))
}
