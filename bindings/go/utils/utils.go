// Package utils has the helpers of the Go library mongoStream.
package utils

import (
	"maps"
	"slices"
	"strings"
)

// ExtractOplogUpdatedFields gives the names of the fields that an update has set, each once. A value that is a map counts
// with the names in it: {"a": 1, "b.6": {"c": 2}} gives a and b.c. Of a dotted name only the first step counts; the option
// updated_paths of package mongostream gives whole paths.
func ExtractOplogUpdatedFields(oplogUpdatedFields map[string]interface{}) []string {
	var names []string
	ExtractSubFields(oplogUpdatedFields, &names, "")
	return RemoveDuplicates(names)
}

// ExtractSubFields appends the names in inputMap, sorted, to updatedFields. parentKey stands before each, with a dot, if
// it is not "".
func ExtractSubFields(inputMap map[string]interface{}, updatedFields *[]string, parentKey string) {
	for _, key := range slices.Sorted(maps.Keys(inputMap)) {
		name, _, _ := strings.Cut(key, ".")
		if parentKey != "" {
			name = parentKey + "." + name
		}
		if inner, ok := inputMap[key].(map[string]interface{}); ok {
			ExtractSubFields(inner, updatedFields, name)
		} else {
			*updatedFields = append(*updatedFields, name)
		}
	}
}

// RemoveDuplicates gives the texts of a slice, each once, in the order in which they first come.
func RemoveDuplicates(slice []string) []string {
	known := make(map[string]bool, len(slice))
	unique := make([]string, 0, len(slice))
	for _, text := range slice {
		if !known[text] {
			known[text] = true
			unique = append(unique, text)
		}
	}
	return unique
}
