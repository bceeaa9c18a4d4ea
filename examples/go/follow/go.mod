module example.com/follow

go 1.24.0

require github.com/mongostream/mongostream/bindings/go v0.0.0

// In a program of your own leave this line out, and run: go get github.com/mongostream/mongostream/bindings/go
replace github.com/mongostream/mongostream/bindings/go => ../../../bindings/go
