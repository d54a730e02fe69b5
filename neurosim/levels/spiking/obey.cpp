// Called at the start of every time step of a standalone simulation: does what the process that
// started it asks for, until it asks for time to pass. Commands come from standard input, arrays
// leave by standard output; the end of the input is the end of the simulation.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "objects.h"

namespace {

struct Array {
    char* data;
    size_t bytes;
};

template <class T>
Array held(T* data, size_t size) {
    return {reinterpret_cast<char*>(data), size * sizeof(T)};
}

struct Command {
    int64_t what, argument, bytes;
};

void receive(void* data, size_t bytes) {
    if (bytes && std::fread(data, bytes, 1, stdin) != 1) std::_Exit(0);
}

}  // namespace

void obey() {
    using namespace brian;
    static const std::vector<Array> arrays = {
#include "arrays.inc"
    };
    static int64_t left = 0;
    while (left == 0) {
        Command command;
        receive(&command, sizeof command);
        switch (command.what) {
            case 'r': {  // read array number `argument`
                const Array& array = arrays.at(command.argument);
                std::fwrite(array.data, 1, array.bytes, stdout);
                std::fflush(stdout);
                break;
            }
            case 'w': {  // write it: so many bytes, which repeat
                const Array& array = arrays.at(command.argument);
                const size_t part = command.bytes;
                receive(array.data, part);
                for (size_t at = part; at < array.bytes; at += part)
                    std::memcpy(array.data + at, array.data, part);
                break;
            }
            case 's':  // seed what is random
                _random_generators[0].seed(static_cast<unsigned long>(command.argument));
                break;
            case 'g':  // go on for so many steps
                left = command.argument;
                break;
            default:
                std::_Exit(2);
        }
    }
    --left;
}
