package dataModel

import (
	"reflect"
	"testing"
)

// Literals without names of fields compile as well.
var (
	_ = Oplog{OplogDocumentKeyObject{""}, OplogNamespaceObject{"", ""}, "", OplogUpdateDescriptionObject{nil}}
	_ = ChangeStreamDocument{"", "", "", "", ""}
)

// Programs write these to databases and encode them: names, types and tags have to stay as they are.
func TestFieldsAndTags(t *testing.T) {
	for _, expected := range []struct {
		value  any
		fields []string
	}{
		{Oplog{}, []string{
			"DocumentKey dataModel.OplogDocumentKeyObject documentKey", "Namespace dataModel.OplogNamespaceObject ns",
			"OperationType string operationType",
			"UpdateDescription dataModel.OplogUpdateDescriptionObject updateDescription",
		}},
		{OplogDocumentKeyObject{}, []string{"DocumentId string _id"}},
		{OplogNamespaceObject{}, []string{"Database string db", "Collection string coll"}},
		{OplogUpdateDescriptionObject{}, []string{"UpdatedFields map[string]interface {} updatedFields"}},
		{ChangeStreamDocument{}, []string{
			"Id string _id", "Database string database", "Collection string collection",
			"OperationType string operationType", "TriggerUpdatedField string triggerUpdatedField",
		}},
	} {
		kind := reflect.TypeOf(expected.value)
		var fields []string
		for index := range kind.NumField() {
			field := kind.Field(index)
			fields = append(fields, field.Name+" "+field.Type.String()+" "+field.Tag.Get("bson"))
		}
		if !reflect.DeepEqual(fields, expected.fields) {
			t.Errorf("%v: %q", kind, fields)
		}
	}
}
