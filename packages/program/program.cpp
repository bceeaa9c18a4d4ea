// As program.c: the C++ header finds the C header and the library.
#include <mongostream.hpp>

#include <iostream>

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    mongostream::buffer buffer{16};
    mongostream::buffer other{16};
    const auto seeing = mongostream::watch(argv[1]).database(argv[2]).start(buffer);
    seeing.wait_ready();
    const auto saving = mongostream::watch(argv[1])
                            .database("elsewhere")
                            .option("checkpoint_collection", std::string{argv[2]} + ".checkpoints")
                            .start(other);
    const auto message = buffer.recv_for(std::chrono::minutes{1});
    std::cout << mongostream::version() << ' ' << message->operation() << ' ' << message->ns() << '\n';
    return message ? 0 : 1;
}
