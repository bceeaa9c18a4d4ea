package mongostream_test

func child([]string) {}
