package mongostream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
)

// threads tells how many threads the process has.
func threads(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	count, err := strconv.Atoi(string(regexp.MustCompile(`Threads:\t(\d+)`).FindSubmatch(status)[1]))
	must(t, err)
	return count
}

func TestManyWaitsHoldNoThreads(t *testing.T) {
	const goroutines = 1000
	buffer, worker, collection := follow(t, nil)
	before := threads(t)
	received := make(chan string, goroutines)
	waits := sync.WaitGroup{}
	started := atomic.Int32{}
	for range goroutines {
		start(&waits, func() {
			started.Add(1)
			message, err := buffer.Recv(soon(t))
			if err != nil {
				received <- err.Error()
				return
			}
			received <- message.DocumentID()
		})
	}
	for range 100 {
		start(&waits, func() {
			started.Add(1)
			if err := worker.Join(soon(t)); err != nil {
				t.Error(err)
			}
		})
	}
	ground.Until(t, "all goroutines", func() bool { return started.Load() == goroutines+100 && buffer.IsWaiting() })
	ground.Insert(t, collection, 0, goroutines/2)
	known := map[string]bool{}
	for range goroutines / 2 {
		known[<-received] = true
	}
	if len(known) != goroutines/2 || !known["0"] {
		t.Error("not each message once:", len(known))
	}
	ground.Until(t, "half of them", buffer.IsWaiting)
	// Threads of the library and of Go's runtime come and go, by far not one for each wait.
	if now := threads(t); now > before+30 {
		t.Errorf("%d threads became %d", before, now)
	}
	buffer.Close()
	for range goroutines / 2 {
		if got := <-received; got != mongostream.ErrClosed.Error() {
			t.Error(got)
		}
	}
	waits.Wait()
}

// A message that is kept in Go changes no descriptor: the one that waits for that has to be told.
func TestKeptMessagesWakeWhoWaits(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	for round := range 20 {
		got := make(chan error)
		go func() {
			_, err := buffer.Recv(soon(t))
			got <- err
		}()
		ground.Until(t, "a wait", buffer.IsWaiting)
		inserted := make(chan bool)
		go func() {
			ground.Insert(t, collection, 10*round, 10*round+2)
			close(inserted)
		}()
		// With one processor that is busy the poller comes too late: the other one has it all.
		processors := runtime.GOMAXPROCS(1)
		for err := mongostream.ErrNothing; err != nil; {
			if _, err = buffer.Try(); err != nil && err != mongostream.ErrNothing {
				t.Fatal(err)
			}
		}
		runtime.GOMAXPROCS(processors)
		<-inserted
		select {
		case err := <-got:
			must(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("round ", round, ": nobody woke the one that waits")
		}
	}
}

// Goroutines that receive in every way, give up and come back, while messages come in bursts.
func TestNoWakeUpIsLost(t *testing.T) {
	const consumers, rounds = 50, 150
	buffer, _, collection := follow(t, nil)
	over, end := context.WithCancel(context.Background())
	received := make(chan string, 1000)
	waits := sync.WaitGroup{}
	for number := range consumers {
		start(&waits, func() {
			random := rand.New(rand.NewSource(int64(number)))
			for over.Err() == nil {
				ctx, cancel := over, context.CancelFunc(func() {})
				if number%3 == 0 {
					ctx, cancel = context.WithTimeout(over, time.Duration(random.Intn(20_000))*time.Microsecond)
				}
				if number%5 == 0 {
					batch, err := buffer.RecvBatch(ctx, 1+random.Intn(3))
					if err == nil {
						for _, message := range batch.Messages() {
							received <- message.DocumentID()
						}
						batch.Close()
					}
				} else if message, err := buffer.Recv(ctx); err == nil {
					received <- message.DocumentID()
					message.Ack()
				}
				cancel()
			}
		})
	}
	known, count := map[string]bool{}, 0
	random := rand.New(rand.NewSource(1))
	for round := range rounds {
		burst := 1 + random.Intn(8)
		ground.Insert(t, collection, count, count+burst)
		count += burst
		for len(known) < count {
			select {
			case id := <-received:
				if known[id] {
					t.Fatal("twice: ", id)
				}
				known[id] = true
			case <-time.After(10 * time.Second):
				t.Fatalf("round %d: %d of %d messages, %d in the buffer", round, len(known), count, buffer.Len())
			}
		}
	}
	end()
	waits.Wait()
}

func TestWaitsLeaveNoGoroutines(t *testing.T) {
	buffer, worker, _ := follow(t, nil)
	before := runtime.NumGoroutine()
	for range 200 {
		limited, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if _, err := buffer.Recv(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err := worker.Join(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	ground.Until(t, fmt.Sprint("as many goroutines as before, ", before), func() bool {
		return runtime.NumGoroutine() <= before
	})
}

func TestFreeEndsWaits(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	ended := make(chan error)
	for range 10 {
		go func() {
			for {
				if _, err := buffer.Recv(context.Background()); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	ground.Insert(t, collection, 0, 100)
	ground.Until(t, "a wait", buffer.IsWaiting)
	for range 3 {
		go buffer.Free()
	}
	for range 10 {
		if err := <-ended; err != mongostream.ErrClosed {
			t.Error(err)
		}
	}
}
