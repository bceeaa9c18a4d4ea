// The way of the Go library: the official driver decodes each event into a struct, which goes through a
// channel; the consumer makes JSON of it. Arguments: URI, second, events.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

type change struct {
	DocumentKey struct {
		DocumentID primitive.ObjectID `bson:"_id"`
	} `bson:"documentKey"`
	Namespace struct {
		Database   string `bson:"db"`
		Collection string `bson:"coll"`
	} `bson:"ns"`
	OperationType     string `bson:"operationType"`
	UpdateDescription struct {
		UpdatedFields map[string]interface{} `bson:"updatedFields"`
	} `bson:"updateDescription"`
}

func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		log.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func main() {
	second, _ := strconv.ParseUint(os.Args[2], 10, 32)
	wanted, _ := strconv.Atoi(os.Args[3])
	began, before := time.Now(), cpu()
	ctx := context.Background()
	client, err := mongo.Connect(ctx, options.Client().ApplyURI(os.Args[1]))
	if err != nil {
		log.Fatal(err)
	}
	start := options.ChangeStream().SetStartAtOperationTime(&primitive.Timestamp{T: uint32(second)})
	stream, err := client.Database("bench").Collection("orders").Watch(ctx, mongo.Pipeline{}, start)
	if err != nil {
		log.Fatal(err)
	}
	buffer := make(chan change, 4096)
	go func() {
		for stream.Next(ctx) {
			var event change
			if err := stream.Decode(&event); err != nil {
				log.Fatal(err)
			}
			buffer <- event
		}
		log.Fatal(stream.Err())
	}()
	events, bytes := 0, 0
	for ; events < wanted; events++ {
		text, err := json.Marshal(<-buffer)
		if err != nil {
			log.Fatal(err)
		}
		bytes += len(text)
	}
	fmt.Println(events, bytes, time.Since(began).Seconds(), cpu()-before)
	os.Stdin.Read(make([]byte, 1))
}
