// Serves a camera with the release that quantd activated, and follows it live.
//
//   camera CURRENT CAMERA           until SIGTERM; CAMERA is a URL, a video or a device's number
//   camera CURRENT PICTURE FOLDER   one picture: FOLDER gets the bytes of each output as N.bin
//
// CURRENT is quantd's link to the active release, such as /var/lib/quantd/current.
#include <chrono>
#include <csignal>
#include <iostream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/videoio.hpp>
#include <thread>

#include "release.hpp"

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

constexpr double kReportEveryS = 10;
constexpr int kTimeoutMs = 5000;  // without frames for so long a network camera is lost
volatile std::sig_atomic_t ended = 0;

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

class Application {
 public:
  Application(fs::path current, std::string camera)
      : current_(std::move(current)), uri_(std::move(camera)) {}

  void serve() {
    if (!fs::exists(current_ / "model.json"))
      std::cout << "waiting for a release at " << current_.string() << std::endl;
    while (!fs::exists(current_ / "model.json")) {
      if (ended) return;
      pause();
    }
    load(fs::canonical(current_));
    std::cout << "serving release " << release_->id() << std::endl;
    for (reported_ = Clock::now(); !ended;) {
      follow();
      serve_frame();
      if (ended || seconds(Clock::now() - reported_) >= kReportEveryS) report();
    }
  }

 private:
  void load(const fs::path& folder) {
    release_ = std::make_unique<quantd::Release>(env_, folder);
    folder_ = folder;
  }

  // Loads the release that `current` leads to now; one that can't be used leaves the loaded one.
  void follow() {
    std::error_code missing;
    const fs::path folder = fs::canonical(current_, missing);
    if (missing || folder == folder_ || folder == refused_) return;
    const std::string before = release_->id();
    try {
      load(folder);
      std::cout << "switched to release " << release_->id() << " from " << before << std::endl;
    } catch (const std::exception& error) {
      std::cerr << "still release " << before << ": " << error.what() << std::endl;
      refused_ = folder;
    }
  }

  void serve_frame() {
    if (!camera_.isOpened() && !open()) return pause();
    cv::Mat frame;
    if (!camera_.read(frame)) {
      std::cout << "the camera is lost; it is opened again" << std::endl;
      return camera_.release();
    }
    const auto begun = Clock::now();
    release_->run(frame);
    took_ms_.push_back(seconds(Clock::now() - begun) * 1e3);
  }

  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(500)); }

  bool open() {
    if (uri_.find_first_not_of("0123456789") == std::string::npos)
      camera_.open(std::stoi(uri_));
    else
      camera_.open(
          uri_, cv::CAP_FFMPEG,
          {cv::CAP_PROP_OPEN_TIMEOUT_MSEC, kTimeoutMs, cv::CAP_PROP_READ_TIMEOUT_MSEC, kTimeoutMs});
    return camera_.isOpened();
  }

  void report() {
    const double past_s = seconds(Clock::now() - reported_);
    std::cout << "release " << release_->id() << ": " << took_ms_.size() / past_s << " frames/s";
    if (!took_ms_.empty()) {
      std::sort(took_ms_.begin(), took_ms_.end());
      std::cout << ", a frame takes " << took_ms_[took_ms_.size() / 2] << " ms, p99 "
                << took_ms_[took_ms_.size() * 99 / 100] << " ms";
    }
    std::cout << std::endl;
    took_ms_.clear();
    reported_ = Clock::now();
  }

  Ort::Env env_{ORT_LOGGING_LEVEL_ERROR, "camera"};
  fs::path current_, folder_, refused_;
  std::string uri_;
  std::unique_ptr<quantd::Release> release_;
  cv::VideoCapture camera_;
  std::vector<double> took_ms_;
  Clock::time_point reported_;
};

size_t bytes_of(const Ort::Value& output) {
  const auto info = output.GetTensorTypeAndShapeInfo();
  switch (info.GetElementType()) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
      return info.GetElementCount() * 8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return info.GetElementCount() * 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return info.GetElementCount() * 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return info.GetElementCount();
    default:
      throw std::runtime_error("an output has a type that is not known here");
  }
}

// Writes the raw outputs for one picture.
void run_once(const fs::path& current, const std::string& picture, const fs::path& folder) {
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "camera");
  quantd::Release release(env, fs::canonical(current));
  const cv::Mat frame = cv::imread(picture, cv::IMREAD_COLOR);
  if (frame.empty()) throw std::runtime_error(picture + " is not a picture");
  const std::vector<Ort::Value> outputs = release.run(frame);
  for (size_t at = 0; at < outputs.size(); ++at) {
    std::ofstream file(folder / (std::to_string(at) + ".bin"), std::ios::binary);
    file.write(static_cast<const char*>(outputs[at].GetTensorRawData()),
               std::streamsize(bytes_of(outputs[at])));
    std::cout << at << ".bin: " << release.outputs()[at] << std::endl;
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3 && count != 4) {
    std::cerr << "usage: camera CURRENT CAMERA, or camera CURRENT PICTURE FOLDER\n";
    return 2;
  }
  for (int signal : {SIGTERM, SIGINT}) std::signal(signal, [](int) { ended = 1; });
  try {
    if (count == 4)
      run_once(arguments[1], arguments[2], arguments[3]);
    else
      Application(arguments[1], arguments[2]).serve();
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
