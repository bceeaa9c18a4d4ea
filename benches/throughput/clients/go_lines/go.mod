module bench/go_lines

go 1.24.0

require github.com/mongostream/mongostream/bindings/go v0.0.0

replace github.com/mongostream/mongostream/bindings/go => ../../../../bindings/go
