package utils

import (
	"reflect"
	"testing"
)

func TestNamesOfUpdatedFields(t *testing.T) {
	inner := map[string]interface{}{"x": 1, "y.0": nil}
	fields := map[string]interface{}{"a": nil, "b.6": inner, "b.7": inner, "c.d": []any{inner}, "e": map[string]any{}}
	if got := ExtractOplogUpdatedFields(fields); !reflect.DeepEqual(got, []string{"a", "b.x", "b.y", "c"}) {
		t.Error(got)
	}
}
