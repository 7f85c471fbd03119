/* A whole round of a sensor whose firmware is C: what it sends must be the files in testdata, byte for byte. Its flash is
 * memory; the loop is what firmware would have, with the gateway's messages read from files. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posthouse_device.h"

#define SLOT 8192
#define BLOCK 512

_Static_assert(sizeof(ph_result) == 4 && sizeof(ph_message) == 4 && sizeof(ph_next) == 4, "as the library has them");

struct board {
    uint8_t slot[SLOT];
    uint8_t pages[2][PH_PAGE_LEN];
    uint8_t scalar[32];
    ph_image activated;
    /* What was sent last, by kind. */
    uint8_t sent[5][160];
    size_t sent_len[5];
    /* Its device, and how often that has refused a call by a function of the board. */
    ph_device *device;
    unsigned refused;
};

static const char *testdata;

static void fail(const char *what) {
    fprintf(stderr, "failed: %s\n", what);
    exit(1);
}

static void check(int holds, const char *what) {
    if (!holds) {
        fail(what);
    }
}

/* --- the board */

/* The device is in the call that calls this, and takes no other. */
static void call_back(struct board *board) {
    uint8_t out[PH_COAP_MAX_REQUEST];
    uint64_t value;
    ph_next next;
    if (board->device == NULL) {
        return;
    }
    check(ph_tick(board->device, 0) == PH_RESULT_INVALID, "tick within a call");
    check(ph_wake(board->device, 0) == PH_RESULT_INVALID, "wake within a call");
    check(ph_manifest(board->device, out, sizeof out, 0) == PH_RESULT_INVALID, "manifest within a call");
    check(ph_coap_wake(board->device, 0) == PH_RESULT_INVALID, "wake over CoAP within a call");
    check(ph_coap_poll(board->device, 0, out, &next, &value) == PH_RESULT_INVALID, "poll within a call");
    check(ph_coap_receive(board->device, out, 4, 0) == PH_RESULT_INVALID, "receive within a call");
    check(ph_deadline(board->device) == UINT64_MAX && !ph_is_busy(board->device), "questions within a call");
    check(ph_installed(board->device) == 0, "the version within a call");
    board->refused++;
}

static int32_t flash_write(void *context, uint32_t offset, const uint8_t *bytes, size_t len) {
    struct board *board = context;
    call_back(board);
    if (offset > SLOT || len > SLOT - offset) {
        return -1;
    }
    memcpy(board->slot + offset, bytes, len);
    return 0;
}

static int32_t flash_sync(void *context) {
    (void)context;
    return 0;
}

static int32_t flash_read(void *context, uint32_t offset, uint8_t *bytes, size_t len) {
    struct board *board = context;
    if (offset > SLOT || len > SLOT - offset) {
        return -1;
    }
    memcpy(bytes, board->slot + offset, len);
    return 0;
}

static int32_t flash_activate(void *context, const ph_image *image) {
    ((struct board *)context)->activated = *image;
    return 0;
}

static int32_t page_read(void *context, uint32_t page, uint8_t *bytes, size_t len) {
    call_back(context);
    if (page > 1 || len != PH_PAGE_LEN) {
        return -1;
    }
    memcpy(bytes, ((struct board *)context)->pages[page], len);
    return 0;
}

static int32_t unreadable(void *context, uint32_t page, uint8_t *bytes, size_t len) {
    (void)context, (void)page, (void)bytes, (void)len;
    return -1;
}

static int32_t page_write(void *context, uint32_t page, const uint8_t *bytes, size_t len) {
    if (page > 1 || len != PH_PAGE_LEN) {
        return -1;
    }
    memcpy(((struct board *)context)->pages[page], bytes, len);
    return 0;
}

static int32_t sign(void *context, const uint8_t *digest, uint8_t *signature) {
    return ph_p256_sign(((struct board *)context)->scalar, digest, signature) == PH_RESULT_OK ? 0 : -1;
}

static void send(void *context, ph_message kind, const uint8_t *bytes, size_t len) {
    struct board *board = context;
    call_back(board);
    check(len <= sizeof board->sent[kind], "a message is longer than 160 bytes");
    memcpy(board->sent[kind], bytes, len);
    board->sent_len[kind] = len;
}

/* --- files */

static size_t load(const char *name, uint8_t *bytes, size_t room) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", testdata, name);
    FILE *file = fopen(path, "rb");
    check(file != NULL, path);
    size_t len = fread(bytes, 1, room, file);
    fclose(file);
    return len;
}

static void sent_is(const struct board *board, ph_message kind, const char *name) {
    uint8_t expected[160];
    size_t len = load(name, expected, sizeof expected);
    check(board->sent_len[kind] == len && memcmp(board->sent[kind], expected, len) == 0, name);
}

/* --- the round */

static ph_config configuration(const struct board *board) {
    ph_config config = {
        .curve = PH_CURVE_P256,
        .installed = 1,
        .slot = SLOT,
        .wake_s = 60,
        .awake_ms = 1000,
        .checkpoint = 1024,
        .timeout_ms = 1000,
        .seed = 1,
        .block = BLOCK,
        .window = 1,
        .block_tries = 3,
    };
    memset(config.product, 0x11, sizeof config.product);
    check(ph_p256_public(board->scalar, config.key) == PH_RESULT_OK, "the public key");
    check(load("release.key", config.release_key, 33) == 33, "the release key");
    return config;
}

/* A CBOR message with one block: a map of the image's digest, the offset and the bytes. */
static size_t block_message(uint8_t *out, const uint8_t *u_id, uint32_t offset, const uint8_t *bytes, size_t len) {
    uint8_t *at = out;
    *at++ = 0xa3;
    *at++ = 0x00;
    *at++ = 0x58;
    *at++ = 32;
    memcpy(at, u_id, 32);
    at += 32;
    *at++ = 0x01;
    if (offset < 24) {
        *at++ = (uint8_t)offset;
    } else if (offset < 256) {
        *at++ = 0x18;
        *at++ = (uint8_t)offset;
    } else {
        *at++ = 0x19;
        *at++ = (uint8_t)(offset >> 8);
        *at++ = (uint8_t)offset;
    }
    *at++ = 0x02;
    if (len < 256) {
        *at++ = 0x58;
        *at++ = (uint8_t)len;
    } else {
        *at++ = 0x59;
        *at++ = (uint8_t)(len >> 8);
        *at++ = (uint8_t)len;
    }
    memcpy(at, bytes, len);
    return (size_t)(at - out) + len;
}

static void up_to_the_reboot(ph_device *device, struct board *board) {
    uint8_t message[1152], image[4096], u_id[32];
    size_t len;
    check(ph_tick(device, 0) == PH_RESULT_OK, "tick");
    check(ph_wake(device, 0) == PH_RESULT_OK, "wake");
    sent_is(board, PH_MESSAGE_HELLO, "hello.cbor");

    len = load("manifest.suit", message, sizeof message);
    message[len - 1] ^= 1;
    check(ph_manifest(device, message, len, 0) == PH_RESULT_REFUSED, "a forged manifest");
    message[len - 1] ^= 1;
    memset(board->sent_len, 0, sizeof board->sent_len);
    check(ph_manifest(device, NULL, 0, 0) == PH_RESULT_OK, "none is wanted");
    check(ph_manifest(device, message, 0, 0) == PH_RESULT_OK, "none is wanted");
    check(board->sent_len[PH_MESSAGE_REFUSED] == 0, "and none was refused");
    check(ph_manifest(device, message, len, 0) == PH_RESULT_OK, "manifest");
    sent_is(board, PH_MESSAGE_STATUS, "status-begun.cbor");
    sent_is(board, PH_MESSAGE_GET, "get-0.cbor");
    check(ph_is_busy(device) && ph_deadline(device) == 1000, "waits for its block");

    /* Not staged, for a minute, and without a word for how long; then the same manifest says: go on. */
    const uint8_t minute[] = {0xa2, 0x00, 0x05, 0x01, 0x18, 60}, some_time[] = {0xa1, 0x00, 0x05};
    check(ph_error(device, minute, sizeof minute, 100) == PH_RESULT_OK && ph_deadline(device) == 60100, "put off for a minute");
    check(ph_error(device, some_time, sizeof some_time, 200) == PH_RESULT_OK && ph_deadline(device) == 5200, "put off");
    check(ph_error(device, minute, sizeof minute - 1, 0) == PH_RESULT_INVALID, "half an error");

    len = load("sign-delegate.cbor", message, sizeof message);
    check(ph_sign_request(device, message, len, 0) == PH_RESULT_OK, "delegate");
    sent_is(board, PH_MESSAGE_SIGNATURE, "delegation.cbor");
    len = load("sign-receipt.cbor", message, sizeof message);
    check(ph_sign_request(device, message, len, 0) == PH_RESULT_OK, "receipt");
    sent_is(board, PH_MESSAGE_SIGNATURE, "receipt.cbor");
    check(ph_sign_request(device, message, len - 1, 0) == PH_RESULT_INVALID, "half a request");

    check(load("u_id.bin", u_id, sizeof u_id) == 32, "u_id");
    size_t size = load("image.bin", image, sizeof image);
    ph_result outcome = PH_RESULT_OK;
    for (size_t at = 0; at < size; at += BLOCK) {
        size_t part = size - at < BLOCK ? size - at : BLOCK;
        len = block_message(message, u_id, (uint32_t)at, image + at, part);
        check(outcome == PH_RESULT_OK, "a block");
        outcome = ph_block(device, message, len, 0);
    }
    check(outcome == PH_RESULT_REBOOT, "reboots after the last block");
    check(board->activated.version == 2 && board->activated.size == size, "what was activated");
    check(memcmp(board->activated.u_id, u_id, 32) == 0, "which image was activated");
    check(memcmp(board->slot, image, size) == 0, "the slot has the image");
}

/* Without a function that it needs a board is refused. */
static void what_a_board_must_have(const ph_config *config, const ph_board *whole) {
    static ph_device device;
    ph_board without[] = {*whole, *whole, *whole, *whole, *whole, *whole};
    without[0].flash_write = NULL;
    without[1].flash_read = NULL;
    without[2].flash_activate = NULL;
    without[3].page_read = NULL;
    without[4].page_write = NULL;
    without[5].sign = NULL;
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        check(ph_open(&device, config, &without[i], PH_BOOT_UNKNOWN, NULL) == PH_RESULT_INVALID, "a function is missing");
    }
}

/* The new image over CoAP: `send` is null, and so is `flash_sync` where a write is durable at once. */
static void silent_after_the_reboot(struct board *board, const ph_config *config, const ph_board *functions, const uint8_t *u_id) {
    static ph_device device;
    static struct board before;
    ph_board silent = *functions;
    silent.send = NULL;
    silent.flash_sync = NULL;
    before = *board;
    board->device = &device;
    check(ph_open(&device, config, &silent, PH_BOOT_IMAGE, u_id) == PH_RESULT_OK, "open without a carrier");
    check(ph_tick(&device, 0) == PH_RESULT_OK && ph_installed(&device) == 2, "a report that nobody sends");
    *board = before;
}

static void over_coap(struct board *board, const ph_config *config, const ph_board *functions) {
    static ph_device device;
    board->device = &device;
    uint8_t out[PH_COAP_MAX_REQUEST];
    uint64_t value;
    ph_next next;
    check(ph_open(&device, config, functions, PH_BOOT_UNKNOWN, NULL) == PH_RESULT_OK, "open");
    check(ph_coap_wake(&device, 0) == PH_RESULT_OK, "wake over CoAP");
    check(ph_coap_poll(&device, 0, out, &next, &value) == PH_RESULT_OK, "poll");
    check(next == PH_NEXT_SEND && out[1] == 2, "a POST is the first");
    check(ph_coap_poll(&device, 0, out, &next, &value) == PH_RESULT_OK, "poll again");
    check(next == PH_NEXT_WAIT && value >= 1000, "waits for the answer");
    const uint8_t reset[4] = {0x70, 0, out[2], out[3]};
    check(ph_coap_receive(&device, reset, sizeof reset, 1) == PH_RESULT_OK, "a reset");
    check(ph_coap_poll(&device, 1, out, &next, &value) == PH_RESULT_OK, "poll after it");
    check(next == PH_NEXT_SLEEP && value == 60, "sleeps until the next wake");
}

int main(int argc, char **argv) {
    static struct board board;
    static ph_device device;
    uint8_t u_id[32];
    check(argc == 2, "usage: round TESTDATA");
    testdata = argv[1];
    memset(board.scalar, 7, sizeof board.scalar);
    const ph_board functions = {&board,    flash_write, flash_sync, flash_read, flash_activate,
                                page_read, page_write,  sign,       send};
    const ph_config config = configuration(&board);

    board.device = &device;
    check(ph_tick(&device, 0) == PH_RESULT_INVALID && ph_installed(&device) == 0, "tick before it is open");
    check(ph_open(NULL, &config, &functions, PH_BOOT_UNKNOWN, NULL) == PH_RESULT_INVALID, "no memory");
    check(ph_open(&device, &config, &functions, PH_BOOT_IMAGE, NULL) == PH_RESULT_INVALID, "no digest");
    check(ph_open(&device, &config, &functions, PH_BOOT_UNKNOWN, NULL) == PH_RESULT_OK, "open");
    what_a_board_must_have(&config, &functions);
    up_to_the_reboot(&device, &board);

    /* The new image starts, passes its self-test, and reports itself. */
    load("u_id.bin", u_id, sizeof u_id);
    silent_after_the_reboot(&board, &config, &functions, u_id);
    check(ph_open(&device, &config, &functions, PH_BOOT_IMAGE, u_id) == PH_RESULT_OK, "open again");
    check(ph_tick(&device, 0) == PH_RESULT_OK, "tick after the reboot");
    check(ph_installed(&device) == 2, "version 2 is installed");
    sent_is(&board, PH_MESSAGE_STATUS, "status-installed.cbor");

    over_coap(&board, &config, &functions);
    check(board.refused > 10, "the board has called back");

    /* What could not be opened takes no calls. */
    ph_board broken = functions;
    broken.page_read = unreadable;
    check(ph_open(&device, &config, &broken, PH_BOOT_UNKNOWN, NULL) == PH_RESULT_BOARD_FAILED, "an unreadable page");
    check(ph_tick(&device, 0) == PH_RESULT_INVALID, "tick of what could not be opened");
    return 0;
}
