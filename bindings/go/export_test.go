package mongostream

import (
	"runtime"
	"time"
)

// What tests need of the inside.

var (
	Fits       = fits
	OptionText = optionText
	ErrNothing = errNothing
)

// Try receives without waiting.
func (b *Buffer) Try() (*Message, error) { return b.message() }

// WithoutDescriptor makes the buffer wait as it does where the system has no descriptor to give.
func (b *Buffer) WithoutDescriptor() { b.waiting.end() }

// IsWaiting tells whether somebody waits for the descriptor.
func (b *Buffer) IsWaiting() bool {
	b.waiting.lock.Lock()
	defer b.waiting.lock.Unlock()
	return b.waiting.asleep.Load() && b.waiting.file != nil
}

// Held gives the bytes of the library's messages that are not freed.
func Held() int64 { return held.Load() }

// CollectUntil collects garbage until a condition holds.
func CollectUntil(condition func() bool) bool {
	for range 500 {
		runtime.GC()
		if condition() {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// WhenCollected calls done when nobody can reach value any more.
func WhenCollected[T any](value *T, done func()) {
	runtime.AddCleanup(value, func(int) { done() }, 0)
}
