package mongostream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
)

// settled waits until all of count messages are in the buffer, so that a receive finds them all.
func settled(t *testing.T, buffer *mongostream.Buffer, count int) {
	t.Helper()
	ground.Until(t, fmt.Sprint(count, " messages"), func() bool { return buffer.Len() == count })
}

func TestLeavingALoopLosesAndReordersNothing(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 200)
	settled(t, buffer, 200)
	var ids []string
	for message, err := range buffer.Messages(soon(t)) {
		must(t, err)
		if ids = append(ids, message.DocumentID()); len(ids) == 3 {
			break
		}
	}
	if length := buffer.Len(); length != 197 {
		t.Error("left in the buffer:", length)
	}
	ids = append(ids, next(t, buffer).DocumentID())
	batch, err := buffer.RecvBatch(soon(t), 10)
	must(t, err)
	if batch.Len() != 10 {
		t.Error("a batch of", batch.Len(), "where ten were kept")
	}
	for _, message := range batch.Messages() {
		ids = append(ids, message.DocumentID())
	}
	if lines := strings.Split(string(batch.Lines()), "\n"); len(lines) != 11 || lines[3] != batch.Message(3).JSON() {
		t.Error("lines of a part:", lines)
	}
	for batch, err := range buffer.Batches(soon(t), 1000) {
		must(t, err)
		if lines := strings.Count(string(batch.Lines()), "\n"); lines != batch.Len() {
			t.Error(lines, "lines of", batch.Len(), "messages")
		}
		for _, message := range batch.Messages() {
			ids = append(ids, message.DocumentID())
		}
		if len(ids) >= 200 {
			break
		}
	}
	for index, id := range ids {
		if id != fmt.Sprint(index) {
			t.Fatal("out of order:", ids)
		}
	}
	if len(ids) != 200 {
		t.Error(len(ids), "messages")
	}
}

func TestBatchesAreLinesAndMessages(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 50)
	settled(t, buffer, 50)
	batch, err := buffer.RecvBatch(soon(t), 40)
	must(t, err)
	if batch.Len() != 40 {
		t.Fatal(batch.Len(), "messages")
	}
	var lines strings.Builder
	for _, message := range batch.Messages() {
		lines.WriteString(message.JSON() + "\n")
	}
	if got := string(batch.Lines()); got != lines.String() {
		t.Error(got)
	}
	batch.Ack()
	if worker.ResumeToken() != batch.Message(39).ResumeToken() {
		t.Error("the batch is not acked")
	}
	batch.Close()
	batch.Close()
	rest, err := buffer.RecvBatch(soon(t), 1000)
	must(t, err)
	if rest.Len() != 10 {
		t.Error("the rest:", rest.Len())
	}
}

func TestAckOfAPartOfABatch(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 5)
	settled(t, buffer, 5)
	next(t, buffer).Ack()
	part, err := buffer.RecvBatch(soon(t), 2)
	must(t, err)
	part.Ack()
	if worker.ResumeToken() != part.Message(1).ResumeToken() {
		t.Error("not where its last message is")
	}
}

func TestBatchOfWhatOneReceiveHasLeft(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 3)
	settled(t, buffer, 3)
	next(t, buffer)
	rest, err := buffer.RecvBatch(soon(t), 1000)
	must(t, err)
	if lines := strings.Count(string(rest.Lines()), "\n"); rest.Len() != 2 || lines != 2 {
		t.Error(rest.Len(), "messages", lines, "lines")
	}
	opened := worker.ResumeToken()
	rest.Ack()
	if worker.ResumeToken() != opened {
		t.Error("the message before is acked too")
	}
}

func TestBatchOfNothingIsRefused(t *testing.T) {
	_, err := mongostream.NewBuffer(1).RecvBatch(soon(t), 0)
	if !errors.Is(err, mongostream.StatusArgument) {
		t.Error(err)
	}
}

func TestCancelledReceiveTakesNoMessage(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 2)
	settled(t, buffer, 2)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if message, err := buffer.Recv(cancelled); message != nil || err != context.Canceled {
		t.Error(message, err)
	}
	if got := next(t, buffer).DocumentID(); got != "0" {
		t.Error("first:", got)
	}
}

func TestContextEndsAWait(t *testing.T) {
	buffer, _, _ := follow(t, nil)
	for _, withDescriptor := range []bool{true, false} {
		limited, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		within(t, time.Second, "a wait", func() {
			if _, err := buffer.Recv(limited); err != context.DeadlineExceeded {
				t.Error(err)
			}
		})
		cancel()
		cancelled, cancel := context.WithCancel(context.Background())
		go func() {
			if withDescriptor {
				ground.Until(t, "a wait", buffer.IsWaiting)
			}
			cancel()
		}()
		within(t, time.Second, "a wait", func() {
			var errs []error
			for _, err := range buffer.Messages(cancelled) {
				errs = append(errs, err)
			}
			if len(errs) != 1 || errs[0] != context.Canceled {
				t.Error(errs)
			}
		})
		buffer.WithoutDescriptor()
	}
}

func TestWaitWithoutADescriptor(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	buffer.WithoutDescriptor()
	go ground.Insert(t, collection, 0, 1)
	if got := next(t, buffer).DocumentID(); got != "0" {
		t.Error(got)
	}
	go worker.Stop()
	if _, err := buffer.Recv(soon(t)); err != mongostream.ErrClosed {
		t.Error(err)
	}
}

func TestClosedBufferIsDrainedFirst(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	ground.Insert(t, collection, 0, 3)
	settled(t, buffer, 3)
	buffer.Close()
	buffer.Close()
	count := 0
	for message, err := range buffer.Messages(soon(t)) {
		must(t, err)
		message.Ack()
		count++
	}
	if count != 3 {
		t.Error(count, "messages")
	}
	if _, err := buffer.Recv(soon(t)); err != mongostream.ErrClosed {
		t.Error(err)
	}
	must(t, worker.Join(soon(t)))
	if state := worker.State(); state != mongostream.StateStopped || state.String() != "stopped" {
		t.Error(state)
	}
	if _, err := buffer.Watch(server.URI, "d", "c", nil); !errors.Is(err, mongostream.StatusState) {
		t.Error("a worker on a closed buffer:", err)
	}
}

func TestStoppedWorkerEndsTheLoop(t *testing.T) {
	buffer, worker, _ := follow(t, nil)
	go func() {
		ground.Until(t, "a wait", buffer.IsWaiting)
		worker.Stop()
		worker.Stop()
	}()
	for message, err := range buffer.Messages(soon(t)) {
		t.Error(message, err)
	}
}

func TestTwoBuffersAtOnce(t *testing.T) {
	first, _, one := follow(t, nil)
	second, _, other := follow(t, nil)
	done := make(chan string)
	for _, buffer := range []*mongostream.Buffer{first, second} {
		go func() {
			message, err := buffer.Recv(context.Background())
			if err != nil {
				done <- err.Error()
				return
			}
			done <- message.Namespace()
		}()
	}
	ground.Until(t, "two waits", func() bool { return first.IsWaiting() && second.IsWaiting() })
	for _, collection := range []string{one.Database().Name(), other.Database().Name()} {
		if collection == one.Database().Name() {
			ground.Insert(t, one, 0, 1)
		} else {
			ground.Insert(t, other, 0, 1)
		}
		if got := <-done; got != collection+".c" {
			t.Error(got, "and not", collection)
		}
	}
}

func TestSeveralWorkersOnOneBuffer(t *testing.T) {
	buffer, _, collection := follow(t, nil)
	other := collection.Database().Collection("other")
	watch(t, buffer, other, mongostream.Options{"name": "other"})
	ground.Insert(t, collection, 0, 1)
	ground.Insert(t, other, 0, 1)
	workers := map[string]bool{}
	for range 2 {
		workers[next(t, buffer).Worker()] = true
	}
	if !workers["other"] || !workers[collection.Database().Name()+".c"] {
		t.Error(workers)
	}
}
