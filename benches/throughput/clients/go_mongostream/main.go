// mongostream from Go, over cgo, in batches. Arguments: URI, second, events.
package main

/*
#include <stdlib.h>
#include "mongostream.h"
*/
import "C"

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func main() {
	wanted, _ := strconv.Atoi(os.Args[3])
	uri, database, collection := C.CString(os.Args[1]), C.CString("bench"), C.CString("orders")
	name, second := C.CString("start_at_time"), C.CString(os.Args[2])
	began, before := time.Now(), cpu()
	buffer := C.ms_buffer_new(4096)
	settings := C.ms_options_new()
	C.ms_options_set(settings, name, second, nil)
	var failure *C.ms_error
	if C.ms_worker_start(uri, database, collection, buffer, settings, &failure) == nil {
		log.Fatal(C.GoString(C.ms_error_message(failure)))
	}
	events, bytes := 0, 0
	for events < wanted {
		var batch *C.ms_batch
		if C.ms_buffer_recv_batch(buffer, 1000, -1, &batch, &failure) != C.MS_OK {
			log.Fatal(C.GoString(C.ms_error_message(failure)))
		}
		var length C.size_t
		lines := C.ms_batch_json_lines(batch, &length)
		text := C.GoBytes(unsafe.Pointer(lines), C.int(length))
		bytes += len(text)
		events += int(C.ms_batch_len(batch))
		C.ms_batch_ack(batch)
		C.ms_batch_free(batch)
	}
	fmt.Println(events, bytes, time.Since(began).Seconds(), cpu()-before)
	os.Stdin.Read(make([]byte, 1))
}
