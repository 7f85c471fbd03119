/* A sensor of Posthouse for firmware in C. Made by cbindgen from device/ffi/src; do not edit. */

#ifndef POSTHOUSE_DEVICE_H
#define POSTHOUSE_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// 8-byte words of a `ph_device`.
#define PH_DEVICE_WORDS 384

// Bytes of a page of the state, of which a board keeps two.
#define PH_PAGE_LEN 590

// Bytes of the buffer for a request over CoAP.
#define PH_COAP_MAX_REQUEST 384

// Longest datagram that a board must be able to receive over CoAP.
#define PH_COAP_MAX_RESPONSE 1152

// How a call went.
enum ph_result
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Done.
  PH_RESULT_OK = 0,
  // Done; the spare slot was made the one that boots: reboot now.
  PH_RESULT_REBOOT = 1,
  // The input was refused, nothing has changed, and the gateway is told where that helps.
  PH_RESULT_REFUSED = 2,
  // A function of the board failed: start again from power-up, what was persisted is sound.
  PH_RESULT_BOARD_FAILED = 3,
  // A null pointer, a board without a function that is needed, a length that cannot be, bytes that are no such message, a
  // device that was not opened, or a call by a function of its board.
  PH_RESULT_INVALID = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ph_result ph_result;
#else
typedef uint32_t ph_result;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a message is: which CoAP resource or MQTT topic it goes to.
enum ph_message
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // `hello`.
  PH_MESSAGE_HELLO = 0,
  // `signature`.
  PH_MESSAGE_SIGNATURE = 1,
  // `refused`.
  PH_MESSAGE_REFUSED = 2,
  // `get`.
  PH_MESSAGE_GET = 3,
  // `status`.
  PH_MESSAGE_STATUS = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ph_message ph_message;
#else
typedef uint32_t ph_message;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What to do next over CoAP.
enum ph_next
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Send `value` bytes of the buffer to the gateway, then poll again.
  PH_NEXT_SEND = 0,
  // Hand in the next datagram, or poll again at `value`, ms.
  PH_NEXT_WAIT = 1,
  // This wake is over: sleep for `value` seconds, then `ph_coap_wake`.
  PH_NEXT_SLEEP = 2,
  // Reboot now.
  PH_NEXT_REBOOT = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ph_next ph_next;
#else
typedef uint32_t ph_next;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What the bootloader says at power-up.
enum ph_boot
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Something runs whose digest is not known.
  PH_BOOT_UNKNOWN = 0,
  // The image with the digest `running` runs.
  PH_BOOT_IMAGE = 1,
  // The activated image did not pass, and the one before it runs again.
  PH_BOOT_REVERTED = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ph_boot ph_boot;
#else
typedef uint32_t ph_boot;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Curves of device keys.
enum ph_curve
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // secp256k1.
  PH_CURVE_SECP256K1 = 1,
  // P-256.
  PH_CURVE_P256 = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ph_curve ph_curve;
#else
typedef uint8_t ph_curve;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Memory of a device, given by the firmware and filled by `ph_open`. It must not move or be copied while in use.
typedef struct ph_device {
  uint64_t words[PH_DEVICE_WORDS];
} ph_device;

// What does not change while the firmware runs.
typedef struct ph_config {
  // The sensor's public key, SEC1 compressed.
  uint8_t key[33];
  // 1: secp256k1, 2: P-256 (`ph_curve`).
  uint8_t curve;
  // Vendor id and class id, 16 bytes each.
  uint8_t product[32];
  // The vendor's release key, P-256, SEC1 compressed.
  uint8_t release_key[33];
  // Sequence number that the factory installed; counts until there is a state.
  uint64_t installed;
  // Bytes of the spare slot.
  uint32_t slot;
  // Seconds from one wake to the next.
  uint32_t wake_s;
  // How long it stays awake over CoAP with nothing to do, ms.
  uint32_t awake_ms;
  // Bytes after which progress is persisted, a multiple of the erase page.
  uint32_t checkpoint;
  // Time for a block, or an answer over CoAP, to come, ms.
  uint32_t timeout_ms;
  // Anything that differs from boot to boot, over CoAP: drawn, or made of a counter that is kept. With the same as before a
  // gateway takes the first words after a reboot for repetitions, and does not heed them.
  uint32_t seed;
  // Bytes of a block, 1 to 1024.
  uint16_t block;
  // Blocks in one request; 1 over CoAP.
  uint16_t window;
  // Requests for one block without an answer before the sensor goes back to sleep.
  uint8_t block_tries;
} ph_config;

// An image that was verified in the spare slot.
typedef struct ph_image {
  // Sequence number.
  uint64_t version;
  // SHA-256 of the image.
  uint8_t u_id[32];
  // Its bytes.
  uint32_t size;
} ph_image;

// What a board can do. Each function gets `context`, and returns 0 when it has done what it was asked. What is said of
// `Flash`, `Key` and `Pages` in `device/README.md` holds here: what is durable when, and what may be torn. All but
// `flash_sync` and `send` are needed: where one is null `ph_open` gives `PH_RESULT_INVALID`.
//
// A function of the board must not call the library with the device that it was called for: it is given `PH_RESULT_INVALID`,
// and nothing happens. What came of a `send` is handed in after the call that has sent it has returned.
typedef struct ph_board {
  // The firmware's own.
  void *context;
  // Writes to the spare slot.
  int32_t (*flash_write)(void*, uint32_t offset, const uint8_t *bytes, size_t len);
  // Makes what was written durable; null where it is once `flash_write` has returned.
  int32_t (*flash_sync)(void*);
  // Reads from the spare slot.
  int32_t (*flash_read)(void*, uint32_t offset, uint8_t *bytes, size_t len);
  // Makes the spare slot the one that boots, in one step.
  int32_t (*flash_activate)(void*, const struct ph_image *image);
  // Reads page 0 or 1 of the state, `PH_PAGE_LEN` bytes. A page that was never written, or is torn, reads as anything.
  int32_t (*page_read)(void*, uint32_t page, uint8_t *bytes, size_t len);
  // Overwrites page 0 or 1 of the state; durable when it returns.
  int32_t (*page_write)(void*, uint32_t page, const uint8_t *bytes, size_t len);
  // ECDSA by the device key over 32 bytes as they are: r and s, 64 bytes, low s.
  int32_t (*sign)(void*, const uint8_t *digest, uint8_t *signature);
  // Sends a message, CBOR, over the firmware's own carrier. Over CoAP only `ph_tick` calls it, and what it gets may be
  // dropped: the next wake says it again. Null drops everything.
  void (*send)(void*, ph_message kind, const uint8_t *bytes, size_t len);
} ph_board;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Starts after power-up, in the memory at `device`. `running` is the digest of the image that runs, 32 bytes, and may be
// null unless `boot`, a `ph_boot`, is `PH_BOOT_IMAGE`. Nothing is written: an image on trial that cannot be opened, or fails
// its self-test, must not stay. Tell the bootloader next that it does, then call `ph_tick`: a report may be due, or an activation.
//
// # Safety
// `device`, `config` and `board` point to such values, `running` to 32 bytes or is null; no call on `device` is on its way. The
// board's functions can be called with the board's context as long as the device is used.
ph_result ph_open(struct ph_device *device,
                  const struct ph_config *config,
                  const struct ph_board *board,
                  uint32_t boot,
                  const uint8_t *running);

// The sensor woke and can reach its gateway.
//
// # Safety
// `device` is null or was given to `ph_open`, and no other thread uses it.
ph_result ph_wake(struct ph_device *device, uint64_t now_ms);

// The sensor is about to sleep for so many seconds.
//
// # Safety
// As `ph_wake`.
ph_result ph_sleep(struct ph_device *device, uint32_t next_wake_s, uint64_t now_ms);

// A manifest came. One of no bytes, which over MQTT says that none is wanted any more, is nothing.
//
// # Safety
// As `ph_wake`; `bytes` is null or points to `len` bytes.
ph_result ph_manifest(struct ph_device *device, const uint8_t *bytes, size_t len, uint64_t now_ms);

// A request to sign came, as CBOR.
//
// # Safety
// As `ph_manifest`.
ph_result ph_sign_request(struct ph_device *device,
                          const uint8_t *bytes,
                          size_t len,
                          uint64_t now_ms);

// A block message came, as CBOR.
//
// # Safety
// As `ph_manifest`.
ph_result ph_block(struct ph_device *device, const uint8_t *bytes, size_t len, uint64_t now_ms);

// An error message came, as CBOR: what the gateway cannot serve. Blocks are asked for again when it says, or after some
// seconds if it does not.
//
// # Safety
// As `ph_manifest`.
ph_result ph_error(struct ph_device *device,
                   const uint8_t *bytes,
                   size_t len,
                   uint64_t now_ms);

// The gateway cannot serve blocks for so many seconds, by whatever the carrier has for that.
//
// # Safety
// As `ph_wake`.
ph_result ph_later(struct ph_device *device, uint32_t retry_after_s, uint64_t now_ms);

// Carries out what time brings: after `ph_open`, and when `ph_deadline` is reached.
//
// # Safety
// As `ph_wake`.
ph_result ph_tick(struct ph_device *device, uint64_t now_ms);

// When `ph_tick` has something again although nothing happens, ms; `UINT64_MAX` if nothing is waited for.
//
// # Safety
// As `ph_wake`.
uint64_t ph_deadline(struct ph_device *device);

// Whether an update is being fetched or checked: no time to sleep.
//
// # Safety
// As `ph_wake`.
bool ph_is_busy(struct ph_device *device);

// Sequence number of what runs.
//
// # Safety
// As `ph_wake`.
uint64_t ph_installed(struct ph_device *device);

// Begins a wake.
//
// # Safety
// As `ph_wake`.
ph_result ph_coap_wake(struct ph_device *device, uint64_t now_ms);

// What to do now: `next` and `value` say it, a datagram to send is written to `out`.
//
// # Safety
// As `ph_wake`; `out` is null or points to `PH_COAP_MAX_REQUEST` bytes, `next` and `value` are null or point to such values.
ph_result ph_coap_poll(struct ph_device *device,
                       uint64_t now_ms,
                       uint8_t *out,
                       ph_next *next,
                       uint64_t *value);

// Takes a datagram that came from the gateway's address.
//
// # Safety
// As `ph_manifest`.
ph_result ph_coap_receive(struct ph_device *device,
                          const uint8_t *bytes,
                          size_t len,
                          uint64_t now_ms);

// The firmware's: reset. It does not return.
extern void ph_panicked(void);

// The public key of a P-256 scalar, 32 bytes big-endian: 33 bytes, SEC1 compressed.
//
// # Safety
// `scalar` is null or points to 32 bytes, `public` is null or points to 33 bytes.
ph_result ph_p256_public(const uint8_t *scalar, uint8_t *public_);

// Signs a digest of 32 bytes with a P-256 scalar: deterministic (RFC 6979), low s, 64 bytes. What `sign` of a `ph_board` is
// to do.
//
// # Safety
// `scalar` and `digest` are null or point to 32 bytes, `signature` is null or points to 64 bytes.
ph_result ph_p256_sign(const uint8_t *scalar,
                       const uint8_t *digest,
                       uint8_t *signature);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* POSTHOUSE_DEVICE_H */
