/* Checksums, eight bytes at a time: no dependency, and no call for the some fifty bytes of an event. */
#include "native.h"

/* Of reflected polynomials: the least bit of a number belongs to the highest power. */
static uint64_t table32[8][256], table64[8][256];

static void prepare(uint64_t table[8][256], uint64_t polynomial)
{
    for (int byte = 0; byte < 256; byte++) {
        uint64_t value = (uint64_t)byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? polynomial : 0);
        table[0][byte] = value;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int byte = 0; byte < 256; byte++)
            table[slice][byte] = table[slice - 1][byte] >> 8 ^ table[0][table[slice - 1][byte] & 0xFF];
}

void crc_prepare(void)
{
    prepare(table32, 0xEDB88320u);           /* IEEE 802.3 */
    prepare(table64, 0x95AC9329AC4BC9B5u);   /* Jones */
}

static uint64_t crc_of(uint64_t table[8][256], uint64_t crc, const uint8_t *data, size_t size)
{
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word = crc ^ number(data, 8);
        crc = 0;
        for (int slice = 0; slice < 8; slice++)
            crc ^= table[7 - slice][word >> 8 * slice & 0xFF];
    }
    for (; size; data++, size--)
        crc = crc >> 8 ^ table[0][(crc ^ *data) & 0xFF];
    return crc;
}

uint32_t crc32_of(uint32_t start, const uint8_t *data, size_t size)
{
    return ~(uint32_t)crc_of(table32, (uint32_t)~start, data, size);
}

uint64_t crc64_of(const uint8_t *data, size_t size)
{
    return crc_of(table64, 0, data, size);
}
