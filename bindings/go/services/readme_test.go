package services_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mongostream/mongostream/bindings/go/internal/ground"
	"go.mongodb.org/mongo-driver/bson"
)

// The program that the README of the Go library mongoStream shows, as a user has it. Two import paths are changed.
const program = `package main

import (
        "github.com/mongostream/mongostream/bindings/go/dataModel"
        "github.com/mongostream/mongostream/bindings/go/services"
        "log"
)

var exit = make(chan bool)

func main() {

        mongoUri := "mongodb://localhost:27017"

        // Init oplog buffer channel
        var buffer = services.InitBuffer(10)

        // Start consumer
        go Consumer(buffer)

        // Start producers
        go services.ListenerWorker(mongoUri, "database", "collection1", buffer)
        go services.ListenerWorker(mongoUri, "database", "collection2", buffer)

        <-exit
}

func Consumer(logBuffer chan dataModel.Oplog) {
        for {
                log.Println("reveived data : ", <-logBuffer)
        }

}
`

func TestTheReadmesProgram(t *testing.T) {
	source := program
	if _, end, err := server.Forward("localhost:27017"); err == nil {
		defer end()
	} else {
		// Somebody else has this port.
		source = strings.Replace(program, "mongodb://localhost:27017", server.URI, 1)
	}
	directory, module := t.TempDir(), filepath.Join(ground.Repository(), "bindings/go")
	write := func(name, text string) { must(t, os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644)) }
	write("main.go", source)
	write("go.mod", "module user\n\ngo 1.24.0\n\nrequire github.com/mongostream/mongostream/bindings/go v0.0.0\n\n"+
		"replace github.com/mongostream/mongostream/bindings/go => "+module+"\n")
	sums, err := os.ReadFile(filepath.Join(module, "go.sum"))
	must(t, err)
	write("go.sum", string(sums))
	build := exec.Command("go", "build", "-mod=mod", "-o", "program", ".")
	build.Dir = directory
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}

	lines := &logged{}
	running := exec.Command(filepath.Join(directory, "program"))
	running.Stderr = lines
	must(t, running.Start())
	defer running.Process.Kill()
	lines.await(t, `database "database", collection "collection1"`)
	lines.await(t, `database "database", collection "collection2"`)

	ctx := context.Background()
	database := server.Database(t).Client().Database("database")
	first, err := database.Collection("collection1").InsertOne(ctx, bson.M{"a": 1})
	must(t, err)
	_, err = database.Collection("collection1").UpdateByID(ctx, first.InsertedID, bson.M{"$set": bson.M{"a": 2, "b": bson.M{"c": "d"}}})
	must(t, err)
	_, err = database.Collection("collection2").InsertOne(ctx, bson.M{"_id": "x"})
	must(t, err)
	_, err = database.Collection("collection2").DeleteOne(ctx, bson.M{"_id": "x"})
	must(t, err)

	found := regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d reveived data :  (.*)$`)
	ground.Until(t, "four messages", func() bool { return len(found.FindAllString(lines.String(), -1)) == 4 })
	id := regexp.MustCompile(`ObjectID\("(\w+)"\)`).FindStringSubmatch(first.InsertedID.(interface{ String() string }).String())[1]
	expected := map[string][]string{
		"collection1": {
			"{{" + id + "} {database collection1} insert {map[]}}",
			"{{" + id + "} {database collection1} update {map[a:2 b:map[c:d]]}}",
		},
		"collection2": {"{{x} {database collection2} insert {map[]}}", "{{x} {database collection2} delete {map[]}}"},
	}
	for collection, expected := range expected {
		var printed []string
		for _, line := range found.FindAllStringSubmatch(lines.String(), -1) {
			if strings.Contains(line[1], collection) {
				printed = append(printed, line[1])
			}
		}
		if !slices.Equal(printed, expected) {
			t.Errorf("%q and not %q", printed, expected)
		}
	}
}
