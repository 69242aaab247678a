/* CRC-32 of IEEE 802.3, eight bytes at a time: no dependency, and no call for the some fifty bytes of an event. */
#include "native.h"

static uint32_t table[8][256];

void crc32_prepare(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
        table[0][byte] = value;
    }
    for (int slice = 1; slice < 8; slice++)
        for (uint32_t byte = 0; byte < 256; byte++)
            table[slice][byte] = table[slice - 1][byte] >> 8 ^ table[0][table[slice - 1][byte] & 0xFF];
}

uint32_t crc32_of(uint32_t start, const uint8_t *data, size_t size)
{
    uint32_t crc = ~start;
    for (; size >= 8; data += 8, size -= 8) {
        uint32_t low = (uint32_t)number(data, 4) ^ crc, high = (uint32_t)number(data + 4, 4);
        crc = table[7][low & 0xFF] ^ table[6][low >> 8 & 0xFF] ^ table[5][low >> 16 & 0xFF] ^ table[4][low >> 24] ^
              table[3][high & 0xFF] ^ table[2][high >> 8 & 0xFF] ^ table[1][high >> 16 & 0xFF] ^ table[0][high >> 24];
    }
    for (; size; data++, size--)
        crc = crc >> 8 ^ table[0][(crc ^ *data) & 0xFF];
    return ~crc;
}

uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int byte = 0; byte < bytes; byte++)
        value |= (uint64_t)at[byte] << 8 * byte;
    return value;
}
