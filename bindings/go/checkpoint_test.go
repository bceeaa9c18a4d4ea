package mongostream_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mongostream/mongostream/bindings/go"
	"github.com/mongostream/mongostream/bindings/go/internal/ground"
)

// A restart goes on with the first message that was not acked.
func restartGoesOn(t *testing.T, options mongostream.Options) {
	t.Helper()
	buffer, worker, collection := follow(t, options)
	ground.Insert(t, collection, 0, 10)
	for id := range 6 {
		if message := next(t, buffer); id != 4 {
			message.Ack()
		}
	}
	buffer.Close()
	must(t, worker.Join(soon(t)))
	buffer.Free()
	worker.Close()

	again := mongostream.NewBuffer(1024)
	defer again.Free()
	worker = watch(t, again, collection, options)
	for id := 4; id < 10; id++ {
		message := next(t, again)
		if got := message.DocumentID(); got != fmt.Sprint(id) {
			t.Errorf("%s and not %d", got, id)
		}
		message.Ack()
	}
	again.Close()
	must(t, worker.Join(soon(t)))
}

func TestCheckpointInAFile(t *testing.T) {
	restartGoesOn(t, mongostream.Options{"checkpoint_file": filepath.Join(t.TempDir(), "token")})
}

func TestCheckpointInACollection(t *testing.T) {
	restartGoesOn(t, mongostream.Options{"checkpoint_collection": server.Database(t).Name() + "_state.checkpoints"})
}

func TestCheckpointInUse(t *testing.T) {
	options := mongostream.Options{"checkpoint_file": filepath.Join(t.TempDir(), "token")}
	buffer, _, collection := follow(t, options)
	_, err := buffer.Watch(server.URI, collection.Database().Name(), "c", options)
	if !errors.Is(err, mongostream.StatusInUse) || !failure(t, err).Retriable {
		t.Error(err)
	}
}

// store keeps checkpoints in memory, and fails as it is told.
type store struct {
	lock  sync.Mutex
	texts map[string]string
	// The next answers, before it works.
	loads, saves []any
	asked        int
}

func (s *store) fail(answers *[]any) error {
	s.asked++
	if len(*answers) == 0 {
		return nil
	}
	answer := (*answers)[0]
	*answers = (*answers)[1:]
	if err, ok := answer.(error); ok {
		return err
	}
	panic(answer)
}

func (s *store) Load(name string) (string, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	return s.texts[name], s.fail(&s.loads)
}

func (s *store) Save(name, text string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	err := s.fail(&s.saves)
	if err == nil {
		s.texts[name] = text
	}
	return err
}

func TestCheckpointInAStoreOfYourOwn(t *testing.T) {
	mine := &store{texts: map[string]string{}}
	restartGoesOn(t, mongostream.Options{"checkpoint_store": mine, "checkpoint_name": "mine"})
	if len(mine.texts) != 1 || mine.texts["mine"] == "" {
		t.Error(mine.texts)
	}
}

func TestStoreThatFailsForAMomentIsAskedAgain(t *testing.T) {
	later := fmt.Errorf("the place is full: %w", mongostream.ErrTryAgain)
	mine := &store{texts: map[string]string{}, loads: []any{later}, saves: []any{later}}
	follow(t, mongostream.Options{"checkpoint_store": mine})
	if mine.lock.Lock(); len(mine.loads)+len(mine.saves) > 0 || mine.asked < 4 {
		t.Error(mine.asked, "calls")
	}
	mine.lock.Unlock()
}

func TestStoreThatFailsEndsTheWorker(t *testing.T) {
	for _, answer := range []any{errors.New("broken"), "a panic"} {
		for _, mine := range []*store{{loads: []any{answer}}, {texts: map[string]string{}, saves: []any{answer}}} {
			buffer := mongostream.NewBuffer(10)
			_, err := buffer.Watch(server.URI, server.Database(t).Name(), "c", mongostream.Options{"checkpoint_store": mine})
			must(t, err)
			if _, err := buffer.Recv(soon(t)); !errors.Is(err, mongostream.StatusCheckpoint) {
				t.Error(answer, err)
			}
			buffer.Free()
		}
	}
}

func TestStoreIsLetGo(t *testing.T) {
	collection := server.Database(t).Collection("c")
	collected := make(chan bool)
	func() {
		mine := &store{texts: map[string]string{}}
		mongostream.WhenCollected(mine, func() { close(collected) })
		buffer := mongostream.NewBuffer(10)
		worker := watch(t, buffer, collection, mongostream.Options{"checkpoint_store": mine})
		// A start that is refused lets go too.
		_, err := buffer.Watch("nonsense", "d", "c", mongostream.Options{"checkpoint_store": mine})
		if err == nil {
			t.Error("started")
		}
		buffer.Free()
		must(t, worker.Join(soon(t)))
		worker.Close()
	}()
	if !mongostream.CollectUntil(func() bool {
		select {
		case <-collected:
			return true
		default:
			return false
		}
	}) {
		t.Error("the library keeps the store")
	}
}

func TestStartAfterAToken(t *testing.T) {
	buffer, worker, collection := follow(t, nil)
	if !strings.HasPrefix(worker.ResumeToken(), `{"_data"`) {
		t.Error("the opening token:", worker.ResumeToken())
	}
	ground.Insert(t, collection, 0, 3)
	token := next(t, buffer).ResumeToken()
	again := mongostream.NewBuffer(10)
	defer again.Free()
	watch(t, again, collection, mongostream.Options{"start_after": token})
	if got := next(t, again).DocumentID(); got != "1" {
		t.Error(got)
	}
}

func TestJoinIsLimitedByItsContext(t *testing.T) {
	_, worker, _ := follow(t, nil)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if err := worker.Join(cancelled); err != context.Canceled {
		t.Error(err)
	}
}
