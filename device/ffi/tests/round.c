/* A whole round of a sensor whose firmware is C: what it sends must be the files in testdata, byte for byte. Its flash is
 * memory; the loop is what firmware would have, with the gateway's messages read from files. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "posthouse_device.h"

#define SLOT 8192
#define BLOCK 512

struct board {
    uint8_t slot[SLOT];
    uint8_t pages[2][PH_PAGE_LEN];
    uint8_t scalar[32];
    ph_image activated;
    /* What was sent last, by kind. */
    uint8_t sent[5][160];
    size_t sent_len[5];
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

static int32_t flash_write(void *context, uint32_t offset, const uint8_t *bytes, size_t len) {
    struct board *board = context;
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
    if (page > 1 || len != PH_PAGE_LEN) {
        return -1;
    }
    memcpy(bytes, ((struct board *)context)->pages[page], len);
    return 0;
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
    check(ph_manifest(device, message, len, 0) == PH_RESULT_OK, "manifest");
    sent_is(board, PH_MESSAGE_STATUS, "status-begun.cbor");
    sent_is(board, PH_MESSAGE_GET, "get-0.cbor");
    check(ph_is_busy(device) && ph_deadline(device) == 1000, "waits for its block");

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

static void over_coap(const ph_config *config, const ph_board *functions) {
    static ph_device device;
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

    check(ph_open(NULL, &config, &functions, PH_BOOT_UNKNOWN, NULL) == PH_RESULT_INVALID, "no memory");
    check(ph_open(&device, &config, &functions, PH_BOOT_IMAGE, NULL) == PH_RESULT_INVALID, "no digest");
    check(ph_open(&device, &config, &functions, PH_BOOT_UNKNOWN, NULL) == PH_RESULT_OK, "open");
    up_to_the_reboot(&device, &board);

    /* The new image starts, passes its self-test, and reports itself. */
    load("u_id.bin", u_id, sizeof u_id);
    check(ph_open(&device, &config, &functions, PH_BOOT_IMAGE, u_id) == PH_RESULT_OK, "open again");
    check(ph_tick(&device, 0) == PH_RESULT_OK, "tick after the reboot");
    check(ph_installed(&device) == 2, "version 2 is installed");
    sent_is(&board, PH_MESSAGE_STATUS, "status-installed.cbor");

    over_coap(&config, &functions);
    return 0;
}
