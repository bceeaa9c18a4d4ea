package mongostream

// The static library is named by its file: next to a shared one -lmongostream would take that. The shared one, which
// pkg-config names too, is then not needed, and the linker leaves it out.

/*
#cgo !mongostream_static pkg-config: mongostream
#cgo mongostream_static pkg-config: --static mongostream
#cgo linux,mongostream_static LDFLAGS: -l:libmongostream.a -Wl,--as-needed
#include "bridge.h"
*/
import "C"

import (
	"fmt"
	"sync"
)

// Version gives the version of the native library that the program runs with, such as "0.1.0".
func Version() string {
	return C.GoString(C.ms_version())
}

// checkVersion says once whether the library that runs fits the header that this package was compiled with.
var checkVersion = sync.OnceValue(func() error {
	return fits(C.MS_VERSION_NUMBER, uint32(C.ms_version_number()))
})

// fits compares two versions, each major*1000000 + minor*1000 + patch.
func fits(compiled, running uint32) error {
	series := func(version uint32) uint32 {
		if version < 1_000_000 {
			return version / 1000 // Before 1.0 each minor version may break what was.
		}
		return version / 1_000_000 * 1000
	}
	if series(compiled) == series(running) && running >= compiled {
		return nil
	}
	text := func(version uint32) string {
		return fmt.Sprintf("%d.%d.%d", version/1_000_000, version/1000%1000, version%1000)
	}
	return &Error{
		Status: StatusState,
		Message: fmt.Sprintf("the native library is version %s, and this program was compiled for %s; "+
			"install that version, or compile the program anew", text(running), text(compiled)),
	}
}
