// Package mongostream turns MongoDB change streams into a plain queue of JSON messages.
//
//	buffer := mongostream.NewBuffer(1024)
//	defer buffer.Close()
//	worker, err := buffer.Watch("mongodb://localhost:27017", "shop", "orders", mongostream.Options{
//		"checkpoint_file": "orders.token",
//	})
//	if err != nil {
//		return err
//	}
//	if err := worker.WaitReady(ctx); err != nil {
//		return err
//	}
//	for message, err := range buffer.Messages(ctx) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(message.JSON())
//		message.Ack()
//	}
//
// A worker follows one change stream and puts its messages into a buffer, from which your code receives them. You ack a
// message when you are done with it; with a checkpoint a restart goes on with the first message that was not acked.
//
// Every wait takes a context, and none holds a thread of the system. Handles are freed by the garbage collector; Close
// and [Buffer.Free] do so earlier.
//
// The package links libmongostream by pkg-config, with the build tag mongostream_static the static one. docs/GO.md in
// the repository is its guide, include/mongostream.h the C API on which it stands.
package mongostream
