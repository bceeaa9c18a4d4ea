module bench/go_mongostream

go 1.21
