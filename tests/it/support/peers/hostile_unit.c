/* A Modbus unit made with libmodbus that is wrong on purpose, for the tests: `tcp` or `rtu DEVICE`.
 *
 * Unit 1. What becomes of a question is decided by its address: below 256 the answer is right; above, the high byte
 * names a fault (the enum below), and for exceptions the low byte is the code. A register says whose it is, as the tests'
 * own servers do: unit * 256 + address % 64 * 4 + function code % 4; a coil or a discrete input is bit 2 of that.
 *
 * It says "ready PORT" when it can be asked. */

#include <errno.h>
#include <netinet/in.h>
#include <modbus.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum fault {
    WRONG_TRANSACTION = 1, /* of the question before */
    WRONG_UNIT = 2,
    WRONG_FUNCTION = 3, /* the other table's */
    TOO_SHORT = 4,      /* a whole answer with one register too few */
    TOO_LONG = 5,
    CUT = 6,   /* half an answer, then silence */
    CLOSE = 7, /* half an answer, then the connection is closed */
    LATE = 8,
    MUTE = 9,
    TORN = 10, /* a bit of the answer is wrong: on TCP nobody can know */
    TWICE = 11,
    EXCEPTION = 12,
    NOISE = 13, /* bytes that are no Modbus before a right answer */
    IN_PIECES = 14 /* a right answer, byte by byte */
};

enum { UNIT = 1, ADDRESSES = 16 * 256, LATE_MICROSECONDS = 500 * 1000, PIECE_MICROSECONDS = 1000 };

static int word(int function, int address) {
    return UNIT << 8 | (address & 0x3F) << 2 | (function & 3);
}

static modbus_mapping_t *registers(void) {
    modbus_mapping_t *map = modbus_mapping_new(ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES);
    if (map == NULL) {
        return NULL;
    }
    for (int at = 0; at < ADDRESSES; at++) {
        map->tab_bits[at] = word(1, at) >> 2 & 1;
        map->tab_input_bits[at] = word(2, at) >> 2 & 1;
        map->tab_registers[at] = (uint16_t)word(3, at);
        map->tab_input_registers[at] = (uint16_t)word(4, at);
    }
    return map;
}

static void send_bytes(int out, const uint8_t *bytes, int length) {
    while (length > 0) {
        ssize_t sent = write(out, bytes, (size_t)length);
        if (sent <= 0) {
            return;
        }
        bytes += sent;
        length -= (int)sent;
    }
}

/* What libmodbus would answer, taken before it goes out: it sends into a pair of sockets instead of the line. */
static int answer(modbus_t *ctx, const uint8_t *question, int length, modbus_mapping_t *map, uint8_t *into) {
    int ends[2], line = modbus_get_socket(ctx), got = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
        return 0;
    }
    modbus_set_socket(ctx, ends[1]);
    (void)modbus_reply(ctx, question, length, map);
    modbus_set_socket(ctx, line);
    close(ends[1]);
    ssize_t piece;
    while ((piece = read(ends[0], into + got, MODBUS_MAX_ADU_LENGTH * 2 - (size_t)got)) > 0) {
        got += (int)piece;
    }
    close(ends[0]);
    return got;
}

/* 0: the connection is to be closed. */
static int misbehave(modbus_t *ctx, enum fault fault, uint8_t *question, int length, modbus_mapping_t *map) {
    static const uint8_t noise[] = {0xFF, 0x00, 'b', 'o', 'o', 't', ' ', '1', '.', '0', '\r', '\n'};
    int header = modbus_get_header_length(ctx), out = modbus_get_socket(ctx);
    uint8_t *unit = question + header - 1, *function = question + header, *count = question + header + 3;
    uint8_t bytes[MODBUS_MAX_ADU_LENGTH * 2];
    switch (fault) {
    case WRONG_TRANSACTION:
        question[1]--;
        break;
    case WRONG_UNIT:
        *unit = 0x41;
        break;
    case WRONG_FUNCTION:
        *function = *function == 3 ? 4 : 3;
        break;
    case TOO_SHORT:
        count[1]--;
        break;
    case TOO_LONG:
        count[1]++;
        break;
    case EXCEPTION:
        (void)modbus_reply_exception(ctx, question, question[header + 2]);
        return 1;
    case MUTE:
        return 1;
    default:
        break;
    }
    int whole = answer(ctx, question, length, map, bytes);
    switch (fault) {
    case CUT:
    case CLOSE:
        send_bytes(out, bytes, whole / 2);
        return fault == CUT;
    case LATE:
        /* A child says it, so that other questions are answered meanwhile. */
        if (fork() == 0) {
            usleep(LATE_MICROSECONDS);
            send_bytes(out, bytes, whole);
            _exit(0);
        }
        return 1;
    case TORN:
        bytes[whole - 3] ^= 0x10;
        break;
    case TWICE:
        send_bytes(out, bytes, whole);
        break;
    case NOISE:
        send_bytes(out, noise, sizeof noise);
        break;
    case IN_PIECES:
        for (int at = 0; at < whole; at++) {
            send_bytes(out, bytes + at, 1);
            usleep(PIECE_MICROSECONDS);
        }
        return 1;
    default:
        break;
    }
    send_bytes(out, bytes, whole);
    return 1;
}

/* 0: the connection is to be closed. */
static int serve(modbus_t *ctx, modbus_mapping_t *map, int tcp) {
    uint8_t question[MODBUS_MAX_ADU_LENGTH];
    int length = modbus_receive(ctx, question);
    if (length < 0) {
        /* On a line bytes that are no question are passed over; what the system says ends it. */
        return !tcp && (errno > MODBUS_ENOBASE || errno == ETIMEDOUT);
    }
    if (length == 0) {
        return 1;
    }
    int header = modbus_get_header_length(ctx);
    if (question[header - 1] != UNIT) {
        return 1;
    }
    enum fault fault = question[header + 1];
    if (fault != 0) {
        return misbehave(ctx, fault, question, length, map);
    }
    return modbus_reply(ctx, question, length, map) >= 0;
}

static int serve_tcp(void) {
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = registers();
    int listener = ctx == NULL || map == NULL ? -1 : modbus_tcp_listen(ctx, 8);
    if (listener < 0) {
        perror("listen");
        return 1;
    }
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror("getsockname");
        return 1;
    }
    printf("ready %d\n", ntohs(address.sin_port));
    fd_set all;
    FD_ZERO(&all);
    FD_SET(listener, &all);
    for (int highest = listener;;) {
        fd_set ready = all;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0) {
            return 1;
        }
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready)) {
                continue;
            }
            if (fd == listener) {
                int fresh = modbus_tcp_accept(ctx, &listener);
                if (fresh >= 0) {
                    FD_SET(fresh, &all);
                    highest = fresh > highest ? fresh : highest;
                }
                continue;
            }
            modbus_set_socket(ctx, fd);
            if (!serve(ctx, map, 1)) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}

static int serve_rtu(const char *device) {
    modbus_t *ctx = modbus_new_rtu(device, 115200, 'N', 8, 1);
    modbus_mapping_t *map = registers();
    if (ctx == NULL || map == NULL || modbus_set_slave(ctx, UNIT) != 0 || modbus_connect(ctx) != 0) {
        perror("open");
        return 1;
    }
    puts("ready 0");
    while (serve(ctx, map, 0)) {
    }
    return 0;
}

int main(int count, char **arguments) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (count == 2 && strcmp(arguments[1], "tcp") == 0) {
        return serve_tcp();
    }
    if (count == 3 && strcmp(arguments[1], "rtu") == 0) {
        return serve_rtu(arguments[2]);
    }
    fputs("tcp, or rtu DEVICE\n", stderr);
    return 2;
}
