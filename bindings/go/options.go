package mongostream

// #include "bridge.h"
// #include <stdlib.h>
import "C"

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unsafe"
)

// Options are a worker's settings, by their names in docs/OPTIONS.md.
//
//	mongostream.Options{
//		"full_document":   "updateLookup",
//		"checkpoint_file": "orders.token",
//		"operations":      []string{"insert", "update"},
//		"retry_ms":        time.Minute,
//	}
//
// Values become the library's text: a string as it is, a bool "true" or "false", numbers digits, a [time.Duration]
// milliseconds, a [time.Time] unix seconds, a [ClusterTime] seconds:increment, a [json.RawMessage] as it is, everything
// else the JSON that encoding/json makes of it. An option whose value is nil is not set. The library refuses names that it does not know.
//
// The key "checkpoint_store" takes a [CheckpointStore].
type Options map[string]any

// storeKey is no option of the library: it has a function of its own there.
const storeKey = "checkpoint_store"

// native makes the library's options, which the caller frees.
func (o Options) native() (*C.ms_options, error) {
	options := C.ms_options_new()
	if options == nil {
		return nil, wrongUse(StatusResource, "the library could not make options")
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if err := set(options, name, o[name]); err != nil {
			C.ms_options_free(options)
			return nil, err
		}
	}
	return options, nil
}

func set(options *C.ms_options, name string, value any) error {
	if value == nil {
		return nil
	}
	if name == storeKey {
		store, ok := value.(CheckpointStore)
		if !ok {
			return wrongUse(StatusArgument, fmt.Sprintf("option %s: a %T is no CheckpointStore", name, value))
		}
		return setStore(options, store)
	}
	text, err := optionText(value)
	if err != nil {
		return wrongUse(StatusArgument, fmt.Sprintf("option %s: %v", name, err))
	}
	nativeName, err := cString(name)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(nativeName))
	nativeText, err := cString(text)
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(nativeText))
	var failure *C.ms_error
	if status := C.ms_options_set(options, nativeName, nativeText, &failure); Status(status) != StatusOK {
		return takeError(status, failure)
	}
	return nil
}

// optionText gives an option's value as the library takes it.
func optionText(value any) (string, error) {
	switch value := value.(type) {
	case json.RawMessage:
		return string(value), nil
	case time.Duration:
		return strconv.FormatInt(value.Milliseconds(), 10), nil
	case time.Time:
		return strconv.FormatInt(value.Unix(), 10), nil
	case ClusterTime:
		return fmt.Sprintf("%d:%d", value.Seconds, value.Increment), nil
	}
	// Other types of the same kinds count as well, such as a string type of your own.
	switch plain := reflect.ValueOf(value); plain.Kind() {
	case reflect.String:
		return plain.String(), nil
	case reflect.Float32, reflect.Float64:
		return strconv.FormatFloat(plain.Float(), 'f', -1, 64), nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

// OptionInfo describes one option of the library.
type OptionInfo struct {
	// Name is the option's key in Options.
	Name string `json:"name"`
	// Kind is "text", "integer", "boolean", "choice", "list" or "json". Later versions may have more.
	Kind string `json:"kind"`
	// Values says in words what the option takes.
	Values string `json:"values"`
	// Choices are the words of a "choice".
	Choices []string `json:"choices"`
	// Default is the text that holds if the option is not set; nil if there is none.
	Default *string `json:"default"`
	// Text says what the option does.
	Text string `json:"text"`
}

// DescribeOptions gives the table of options of the library that the program runs with.
func DescribeOptions() ([]OptionInfo, error) {
	text := C.ms_options_describe()
	if text == nil {
		return nil, wrongUse(StatusResource, "the library could not describe its options")
	}
	var table []OptionInfo
	if err := json.Unmarshal([]byte(takeString(text)), &table); err != nil {
		return nil, fmt.Errorf("mongostream: the library's table of options: %w", err)
	}
	return table, nil
}
