-- What wrk sends: TEXTS names a file with a text a line, LIST is 0 for /prediction or the length of
-- the lists for /predictions, FRESH is 1 where no text may be sent twice.
local texts, list, fresh = {}, tonumber(os.getenv("LIST")), os.getenv("FRESH") == "1"
for line in io.lines(os.getenv("TEXTS")) do texts[#texts + 1] = line end
local run, number = os.getenv("RUN"), 0

local function quoted()
  number = number + 1
  local text = texts[number % #texts + 1]
  if fresh then text = text .. " " .. run .. number end
  return '"' .. text .. '"'
end

function request()
  local headers = {["content-type"] = "application/json"}
  if list == 0 then return wrk.format("POST", "/prediction", headers, '{"text": ' .. quoted() .. "}") end
  local parts = {}
  for i = 1, list do parts[i] = quoted() end
  return wrk.format("POST", "/predictions", headers, '{"texts": [' .. table.concat(parts, ", ") .. "]}")
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('\nRESULT {"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
