/* A sensor whose firmware is C and whose board is a process on Linux, to begin a port from: CoAP over UDP, and a folder for flash.
 *
 *     sensor FOLDER                                        makes a key where there is none, and prints the public one
 *     sensor FOLDER GATEWAY PORT RELEASE_KEY VENDOR_ID CLASS_ID
 *
 * In the folder are `key`, the slots `a` and `b`, the state's `page-0` and `page-1`, and `boot`, which is all of a bootloader: the name of
 * the slot that runs, and the digest of its image. A reboot is a new turn of the outermost loop. Its carrier has no DTLS, so that the
 * gateway asks it to sign only with `sensors.allow_unauthenticated_signing`: for trials. */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "posthouse_device.h"

#define SLOT (1024 * 1024)
#define WAKE_S 10

struct board {
    uint8_t scalar[32];
    /* What runs: 'a', 'b', or 0 before the first update. */
    uint8_t slot;
    uint8_t u_id[32];
};

/* A call of the system failed. */
static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* Something else is wrong. */
static void stop(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- files */

/* How many bytes were read, fewer at the file's end; -1 with `errno`, which is ENOENT where the file was never written. */
static ssize_t read_at(const char *file, uint32_t offset, uint8_t *bytes, size_t len) {
    int fd = open(file, O_RDONLY);
    if (fd < 0) {
        return -1;
    }
    ssize_t done = pread(fd, bytes, len, offset);
    int why = errno;
    close(fd);
    errno = why;
    return done;
}

static int32_t write_at(const char *file, int flags, uint32_t offset, const uint8_t *bytes, size_t len) {
    int fd = open(file, O_WRONLY | O_CREAT | flags, 0600);
    if (fd < 0) {
        return -1;
    }
    int failed = pwrite(fd, bytes, len, offset) != (ssize_t)len || fsync(fd) != 0;
    return close(fd) == 0 && !failed ? 0 : -1;
}

/* --- the board: each function returns 0 when it has done what it was asked */

static const char *spare(void *context) {
    return ((struct board *)context)->slot == 'a' ? "b" : "a";
}

static int32_t flash_write(void *context, uint32_t offset, const uint8_t *bytes, size_t len) {
    if (offset > SLOT || len > SLOT - offset) {
        return -1;
    }
    return write_at(spare(context), 0, offset, bytes, len);
}

static int32_t flash_read(void *context, uint32_t offset, uint8_t *bytes, size_t len) {
    return read_at(spare(context), offset, bytes, len) == (ssize_t)len ? 0 : -1;
}

/* One step, as a file is renamed or is not. The slot is cut to the image, so that it can be compared with the vendor's. */
static int32_t flash_activate(void *context, const ph_image *image) {
    uint8_t record[33];
    record[0] = (uint8_t)*spare(context);
    memcpy(record + 1, image->u_id, 32);
    if (truncate(spare(context), image->size) != 0 || write_at("boot.new", 0, 0, record, 33) != 0) {
        return -1;
    }
    return rename("boot.new", "boot");
}

static const char *page(uint32_t number) {
    return number == 0 ? "page-0" : "page-1";
}

/* A page that was never written, or not to its end, reads as anything. One that cannot be read is a failure: a sensor that has a
 * state must not go on as a new one. */
static int32_t page_read(void *context, uint32_t number, uint8_t *bytes, size_t len) {
    (void)context;
    memset(bytes, 0xff, len);
    return read_at(page(number), 0, bytes, len) >= 0 || errno == ENOENT ? 0 : -1;
}

static int32_t page_write(void *context, uint32_t number, const uint8_t *bytes, size_t len) {
    (void)context;
    return write_at(page(number), 0, 0, bytes, len);
}

static int32_t sign(void *context, const uint8_t *digest, uint8_t *signature) {
    return ph_p256_sign(((struct board *)context)->scalar, digest, signature) == PH_RESULT_OK ? 0 : -1;
}

/* --- the loop */

/* What the bootloader says: which slot runs, with which image. Nothing is said before the first update; a record that cannot be read
 * is something else, as the slot that runs could be taken for the spare one. */
static ph_boot booted(struct board *board) {
    uint8_t record[33];
    ssize_t len = read_at("boot", 0, record, sizeof record);
    if (len < 0 && errno == ENOENT) {
        board->slot = 0;
        return PH_BOOT_UNKNOWN;
    }
    if (len < 0) {
        fail("boot");
    }
    if (len != sizeof record || (record[0] != 'a' && record[0] != 'b')) {
        stop("boot", "is no record of a slot");
    }
    board->slot = record[0];
    memcpy(board->u_id, record + 1, 32);
    return PH_BOOT_IMAGE;
}

/* Power-up: what `ph_tick` says of it. */
static ph_result opened(ph_device *device, struct board *board, ph_config *config) {
    /* No `flash_sync`, as each write is durable when it returns; no `send`, as over CoAP only `ph_tick` would call it, with a
     * report that the wake says again. */
    const ph_board functions = {
        .context = board,
        .flash_write = flash_write,
        .flash_read = flash_read,
        .flash_activate = flash_activate,
        .page_read = page_read,
        .page_write = page_write,
        .sign = sign,
    };
    ph_boot boot = booted(board);
    if (getrandom(&config->seed, sizeof config->seed, 0) != sizeof config->seed) {
        fail("randomness");
    }
    ph_result result = ph_open(device, config, &functions, boot, board->u_id);
    if (result != PH_RESULT_OK) {
        return result;
    }
    /* A board has tested the new image by now, and the state could be read: it tells its bootloader here that the image stays. */
    return ph_tick(device, now_ms());
}

/* Takes the next datagram, if one comes until `value`. */
static ph_result received(ph_device *device, int gateway, uint64_t value) {
    uint8_t in[PH_COAP_MAX_RESPONSE];
    uint64_t now = now_ms();
    struct pollfd readable = {.fd = gateway, .events = POLLIN};
    if (poll(&readable, 1, value > now ? (int)(value - now) : 0) <= 0) {
        return PH_RESULT_OK;
    }
    ssize_t len = recv(gateway, in, sizeof in, 0);
    return len > 0 ? ph_coap_receive(device, in, (size_t)len, now_ms()) : PH_RESULT_OK;
}

/* Does what is next. */
static ph_result step(ph_device *device, int gateway) {
    uint8_t out[PH_COAP_MAX_REQUEST];
    uint64_t value;
    ph_next next;
    ph_result result = ph_coap_poll(device, now_ms(), out, &next, &value);
    if (result != PH_RESULT_OK) {
        return result;
    }
    switch (next) {
    case PH_NEXT_SEND:
        /* A datagram that is lost is sent again. */
        (void)!send(gateway, out, value, 0);
        return PH_RESULT_OK;
    case PH_NEXT_WAIT:
        return received(device, gateway, value);
    case PH_NEXT_SLEEP:
        printf("sleeps %llu s\n", (unsigned long long)value);
        sleep((unsigned)value);
        return ph_coap_wake(device, now_ms());
    default:
        return PH_RESULT_REBOOT;
    }
}

/* From power-up to the next reboot. */
static void live(struct board *board, ph_config *config, int gateway) {
    static ph_device device;
    ph_result result = opened(&device, board, config);
    if (result == PH_RESULT_OK) {
        printf("runs version %llu\n", (unsigned long long)ph_installed(&device));
        result = ph_coap_wake(&device, now_ms());
    }
    while (result == PH_RESULT_OK) {
        result = step(&device, gateway);
    }
    if (result != PH_RESULT_REBOOT) {
        /* A board resets: what was persisted is sound. */
        stop("the board", "failed");
    }
}

/* --- what a factory does */

/* But for the keys and the product. */
static ph_config configuration(void) {
    return (ph_config){
        .curve = PH_CURVE_P256,
        .installed = 0,
        .slot = SLOT,
        .wake_s = WAKE_S,
        .awake_ms = 1000,
        .checkpoint = 4096,
        .timeout_ms = 2000,
        .block = 512,
        .window = 1,
        .block_tries = 4,
    };
}

static void hex(uint8_t *bytes, size_t len, const char *text) {
    int right = 1;
    for (size_t i = 0; right && i < len; i++) {
        /* UUIDs have dashes. */
        text += *text == '-';
        right = isxdigit((unsigned char)text[0]) && isxdigit((unsigned char)text[1]) && sscanf(text, "%2hhx", &bytes[i]) == 1;
        text += right ? 2 : 0;
    }
    if (!right || *text != '\0') {
        fprintf(stderr, "%zu bytes in hex are expected\n", len);
        exit(2);
    }
}

/* The key that lies in the folder, made where there is none. */
static void own_key(struct board *board, ph_config *config) {
    ssize_t len = read_at("key", 0, board->scalar, sizeof board->scalar);
    if (len < 0 && errno == ENOENT) {
        len = getrandom(board->scalar, sizeof board->scalar, 0);
        if (len == sizeof board->scalar && write_at("key", O_EXCL, 0, board->scalar, sizeof board->scalar) != 0) {
            fail("key");
        }
    }
    if (len < 0) {
        fail("key");
    }
    if (len != sizeof board->scalar || ph_p256_public(board->scalar, config->key) != PH_RESULT_OK) {
        stop("key", "is no key of P-256");
    }
}

static int connected(const char *host, const char *port) {
    struct addrinfo *found, wanted = {.ai_socktype = SOCK_DGRAM};
    int unknown = getaddrinfo(host, port, &wanted, &found);
    if (unknown != 0) {
        stop(host, gai_strerror(unknown));
    }
    int gateway = socket(found->ai_family, SOCK_DGRAM, 0);
    if (gateway < 0 || connect(gateway, found->ai_addr, found->ai_addrlen) != 0) {
        fail(host);
    }
    freeaddrinfo(found);
    return gateway;
}

int main(int argc, char **argv) {
    static struct board board;
    ph_config config = configuration();
    if (argc != 2 && argc != 7) {
        fprintf(stderr, "usage: sensor FOLDER [GATEWAY PORT RELEASE_KEY VENDOR_ID CLASS_ID]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (chdir(argv[1]) != 0) {
        fail(argv[1]);
    }
    own_key(&board, &config);
    for (size_t i = 0; i < sizeof config.key; i++) {
        printf("%02x", config.key[i]);
    }
    printf("\n");
    if (argc == 2) {
        return 0;
    }
    hex(config.release_key, 33, argv[4]);
    hex(config.product, 16, argv[5]);
    hex(config.product + 16, 16, argv[6]);
    int gateway = connected(argv[2], argv[3]);
    for (;;) {
        live(&board, &config, gateway);
        printf("reboots\n");
    }
}
