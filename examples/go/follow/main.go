// Follow prints the changes of a collection as lines of JSON, until Ctrl-C.
//
//	follow mongodb://localhost:27017 shop orders checkpoint_file=orders.token
//
// "-" stands for no collection (the whole database) or no database (the whole deployment).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mongostream/mongostream/bindings/go"
)

const usage = "usage: follow URI DATABASE COLLECTION [option=value ...]"

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	options := mongostream.Options{}
	for _, argument := range os.Args[4:] {
		name, value, found := strings.Cut(argument, "=")
		if !found {
			fmt.Fprintln(os.Stderr, usage)
			os.Exit(2)
		}
		options[name] = value
	}
	if err := follow(os.Args[1], all(os.Args[2]), all(os.Args[3]), options); err != nil {
		fmt.Fprintln(os.Stderr, "follow:", err)
		os.Exit(1)
	}
}

// all makes the library's "" of the command line's "-".
func all(name string) string {
	if name == "-" {
		return ""
	}
	return name
}

func follow(uri, database, collection string, options mongostream.Options) (err error) {
	signals, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	buffer := mongostream.NewBuffer(1024)
	// Closed, the buffer still gives what is queued, and then the loop ends.
	defer context.AfterFunc(signals, buffer.Close)()
	worker, err := buffer.Watch(uri, database, collection, options)
	if err != nil {
		return err
	}
	defer func() {
		buffer.Close()
		// Saves the checkpoint. Only a store that hangs makes it wait.
		limited, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		// A worker's own failure has come through the buffer already.
		if joined := worker.Join(limited); err == nil {
			err = joined
		}
	}()
	if err := worker.WaitReady(signals); err == nil {
		fmt.Fprintln(os.Stderr, "ready")
	} else if !errors.Is(err, context.Canceled) && !errors.Is(err, mongostream.ErrClosed) {
		return err
	}
	for message, err := range buffer.Messages(context.Background()) {
		if err != nil {
			return err
		}
		// Not buffered: the line is out before the ack.
		if _, err := fmt.Println(message.JSON()); err != nil {
			return err
		}
		message.Ack()
		message.Close()
	}
	return nil
}
