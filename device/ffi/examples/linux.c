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

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- the board: each function returns 0 when it has done what it was asked */

static int32_t at(const char *file, int flags, uint32_t offset, uint8_t *bytes, size_t len) {
    int fd = open(file, flags, 0600);
    if (fd < 0) {
        return -1;
    }
    ssize_t done = flags == O_RDONLY ? pread(fd, bytes, len, offset) : pwrite(fd, bytes, len, offset);
    int failed = done != (ssize_t)len || (flags != O_RDONLY && fsync(fd) != 0);
    return close(fd) == 0 && !failed ? 0 : -1;
}

static const char *spare(void *context) {
    return ((struct board *)context)->slot == 'a' ? "b" : "a";
}

static int32_t flash_write(void *context, uint32_t offset, const uint8_t *bytes, size_t len) {
    if (offset > SLOT || len > SLOT - offset) {
        return -1;
    }
    return at(spare(context), O_WRONLY | O_CREAT, offset, (uint8_t *)bytes, len);
}

/* Each write is durable when it returns. */
static int32_t flash_sync(void *context) {
    (void)context;
    return 0;
}

static int32_t flash_read(void *context, uint32_t offset, uint8_t *bytes, size_t len) {
    return at(spare(context), O_RDONLY, offset, bytes, len);
}

/* One step, as a file is renamed or is not. The slot is cut to the image, so that it can be compared with the vendor's. */
static int32_t flash_activate(void *context, const ph_image *image) {
    uint8_t record[33];
    record[0] = (uint8_t)*spare(context);
    memcpy(record + 1, image->u_id, 32);
    if (truncate(spare(context), image->size) != 0 || at("boot.new", O_WRONLY | O_CREAT, 0, record, 33) != 0) {
        return -1;
    }
    return rename("boot.new", "boot");
}

static const char *page(uint32_t number) {
    return number == 0 ? "page-0" : "page-1";
}

/* A page that was never written reads as anything. */
static int32_t page_read(void *context, uint32_t number, uint8_t *bytes, size_t len) {
    (void)context;
    memset(bytes, 0xff, len);
    (void)at(page(number), O_RDONLY, 0, bytes, len);
    return 0;
}

static int32_t page_write(void *context, uint32_t number, const uint8_t *bytes, size_t len) {
    (void)context;
    return at(page(number), O_WRONLY | O_CREAT, 0, (uint8_t *)bytes, len);
}

static int32_t sign(void *context, const uint8_t *digest, uint8_t *signature) {
    return ph_p256_sign(((struct board *)context)->scalar, digest, signature) == PH_RESULT_OK ? 0 : -1;
}

/* Over CoAP it is not called. */
static void say(void *context, ph_message kind, const uint8_t *bytes, size_t len) {
    (void)context, (void)kind, (void)bytes, (void)len;
}

/* --- the loop */

/* From power-up to the next reboot. */
static void live(struct board *board, ph_config *config, int gateway) {
    static ph_device device;
    const ph_board functions = {board,     flash_write, flash_sync, flash_read, flash_activate,
                                page_read, page_write,  sign,       say};
    uint8_t record[33];
    ph_boot boot = PH_BOOT_UNKNOWN;
    if (at("boot", O_RDONLY, 0, record, sizeof record) == 0) {
        /* A board tests the new image here, and tells its bootloader that it stays. */
        boot = PH_BOOT_IMAGE;
        board->slot = record[0];
        memcpy(board->u_id, record + 1, 32);
    }
    if (getrandom(&config->seed, sizeof config->seed, 0) != sizeof config->seed) {
        fail("randomness");
    }
    ph_result result = ph_open(&device, config, &functions, boot, boot == PH_BOOT_IMAGE ? board->u_id : NULL);
    if (result == PH_RESULT_OK) {
        result = ph_tick(&device, now_ms());
    }
    if (result == PH_RESULT_OK) {
        printf("runs version %llu\n", (unsigned long long)ph_installed(&device));
        result = ph_coap_wake(&device, now_ms());
    }
    while (result != PH_RESULT_REBOOT) {
        uint8_t out[PH_COAP_MAX_REQUEST], in[PH_COAP_MAX_RESPONSE];
        uint64_t value, now = now_ms();
        ph_next next;
        if (result == PH_RESULT_BOARD_FAILED || result == PH_RESULT_INVALID) {
            fail("the board");
        }
        if (ph_coap_poll(&device, now, out, &next, &value) == PH_RESULT_BOARD_FAILED) {
            fail("the board");
        }
        if (next == PH_NEXT_REBOOT) {
            return;
        }
        if (next == PH_NEXT_SEND) {
            /* A datagram that is lost is sent again. */
            (void)!send(gateway, out, value, 0);
        } else if (next == PH_NEXT_SLEEP) {
            printf("sleeps %llu s\n", (unsigned long long)value);
            sleep((unsigned)value);
            result = ph_coap_wake(&device, now_ms());
        } else {
            struct pollfd readable = {.fd = gateway, .events = POLLIN};
            if (poll(&readable, 1, value > now ? (int)(value - now) : 0) > 0) {
                ssize_t len = recv(gateway, in, sizeof in, 0);
                if (len > 0) {
                    /* What is no answer is left out of account. */
                    result = ph_coap_receive(&device, in, (size_t)len, now_ms());
                    result = result == PH_RESULT_INVALID ? PH_RESULT_OK : result;
                }
            }
        }
    }
}

/* --- what a factory does */

static void hex(uint8_t *bytes, size_t len, const char *text) {
    for (size_t i = 0; i < len; i++) {
        /* UUIDs have dashes. */
        text += *text == '-';
        if (sscanf(text, "%2hhx", &bytes[i]) != 1) {
            fprintf(stderr, "%zu bytes in hex are expected\n", len);
            exit(2);
        }
        text += 2;
    }
}

static int connected(const char *host, const char *port) {
    struct addrinfo *found, wanted = {.ai_socktype = SOCK_DGRAM};
    int gateway = -1;
    if (getaddrinfo(host, port, &wanted, &found) == 0) {
        gateway = socket(found->ai_family, SOCK_DGRAM, 0);
    }
    if (gateway < 0 || connect(gateway, found->ai_addr, found->ai_addrlen) != 0) {
        fail(host);
    }
    freeaddrinfo(found);
    return gateway;
}

int main(int argc, char **argv) {
    static struct board board;
    ph_config config = {
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
    if (argc != 2 && argc != 7) {
        fprintf(stderr, "usage: sensor FOLDER [GATEWAY PORT RELEASE_KEY VENDOR_ID CLASS_ID]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (chdir(argv[1]) != 0) {
        fail(argv[1]);
    }
    if (at("key", O_RDONLY, 0, board.scalar, 32) != 0 &&
        (getrandom(board.scalar, 32, 0) != 32 || at("key", O_WRONLY | O_CREAT | O_EXCL, 0, board.scalar, 32) != 0)) {
        fail("key");
    }
    if (ph_p256_public(board.scalar, config.key) != PH_RESULT_OK) {
        fail("key");
    }
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
